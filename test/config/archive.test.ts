import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ConfigError, readConfig } from '../../config/index.ts'

const archiveOf = (env: Record<string, string>) => readConfig(env).archive

test('nothing is archived unless it is said where, whatever is set for other programs', () => {
  assert.equal(archiveOf({ AWS_ACCESS_KEY_ID: 'id', AWS_REGION: 'eu-west-1' }), undefined)
})

test('a directory needs its URL alone, a bucket may have a server, a region and credentials', () => {
  assert.equal(archiveOf({ TIDINGS_ARCHIVE_URL: 'file:///var/lib/tidings/archive' })?.url, 'file:///var/lib/tidings/archive')
  const bucket = { TIDINGS_ARCHIVE_URL: 's3://messages/eu/tidings', AWS_ENDPOINT_URL_S3: 'http://store:7070', AWS_REGION: 'eu-west-1' }
  const credentials = { AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'key' }
  assert.deepEqual(archiveOf({ ...bucket, ...credentials }), {
    url: 's3://messages/eu/tidings',
    endpoint: 'http://store:7070/',
    region: 'eu-west-1',
    credentials: { accessKeyId: 'id', secretAccessKey: 'key' },
  })
  assert.equal(archiveOf(bucket)?.credentials, undefined)
  assert.equal(archiveOf({ ...bucket, ...credentials, AWS_SESSION_TOKEN: 'token' })?.credentials?.sessionToken, 'token')
})

for (const url of ['/var/archive', 'file://relative', 'file:///', 's3://', 's3://Bucket', 'https://bucket', 's3://bucket/a b']) {
  test(`${url} is no place for an archive`, () => {
    assert.throws(
      () => archiveOf({ TIDINGS_ARCHIVE_URL: url }),
      (error) => error instanceof ConfigError && /^TIDINGS_ARCHIVE_URL: /m.test(error.message),
    )
  })
}

test('half of the credentials are refused, naming what is missing', () => {
  const env = { TIDINGS_ARCHIVE_URL: 's3://messages', AWS_ACCESS_KEY_ID: 'id' }
  assert.throws(() => archiveOf(env), /^ConfigError: AWS_SECRET_ACCESS_KEY: goes with AWS_ACCESS_KEY_ID$/)
  assert.throws(() => archiveOf({ TIDINGS_ARCHIVE_URL: 's3://messages', AWS_SECRET_ACCESS_KEY: 'x' }), /AWS_ACCESS_KEY_ID: goes with/)
})
