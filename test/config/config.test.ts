import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ConfigError, readConfig } from '../../config/index.ts'

const STRONG = 'wU3kq9Zt1xG7mB5vR2nL8cY4sD6fH0jP'
const OTHER = 'a9K2v7Q4m1X8c5Z3n6B0l7J2h4G9f1D8'
const PRODUCTION = { TIDINGS_ENV: 'production', TIDINGS_JWT_SECRET: STRONG, TIDINGS_ENCRYPTION_KEY: OTHER }

function problemsOf(env: Record<string, string>): readonly string[] {
  try {
    readConfig(env)
    return []
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.message.split('\n')
  }
}

test('production starts on strong secrets, and on previous ones beside them', () => {
  const previous = { TIDINGS_JWT_SECRET_PREVIOUS: `${OTHER}, ${OTHER}1`, TIDINGS_ENCRYPTION_KEYS_PREVIOUS: STRONG }
  assert.deepEqual(problemsOf({ ...PRODUCTION, ...previous }), [])
  assert.deepEqual(readConfig({ ...PRODUCTION, ...previous }).previousJwtSecrets, [OTHER, `${OTHER}1`])
})

test('production refuses a missing secret, and names every one', () => {
  const problems = problemsOf({ TIDINGS_ENV: 'production' })
  assert.deepEqual(
    problems.map((line) => line.split(':')[0]),
    ['TIDINGS_JWT_SECRET', 'TIDINGS_ENCRYPTION_KEY'],
  )
})

for (const weak of [
  'short',
  'x'.repeat(64),
  'abcabcabcabcabcabcabcabcabcabcabcabc',
  'change-me-change-me-change-me-0123456789',
  'CHANGEME0123456789abcdefghijklmnop',
  'your-very-secret-secret-0123456789',
  'example secret of thirty-two letters',
  'passwordpassword0123456789abcdef',
  'test secret of at least 32 characters',
]) {
  test(`production does not start on the secret "${weak.slice(0, 20)}…" in any place, and does not repeat it`, () => {
    for (const name of [
      'TIDINGS_JWT_SECRET',
      'TIDINGS_JWT_SECRET_PREVIOUS',
      'TIDINGS_ENCRYPTION_KEY',
      'TIDINGS_ENCRYPTION_KEYS_PREVIOUS',
    ]) {
      const problems = problemsOf({ ...PRODUCTION, [name]: weak })
      assert.equal(problems.length, 1, name)
      assert.ok(problems[0]?.startsWith(`${name}: `), problems[0])
      assert.ok(!problems[0]?.includes(weak))
    }
  })
}

test('one secret for tokens and for encryption is refused in production', () => {
  assert.match(problemsOf({ ...PRODUCTION, TIDINGS_ENCRYPTION_KEY: STRONG }).join(), /must not be TIDINGS_JWT_SECRET/)
})

test('development takes a weak secret of 32 characters, and none', () => {
  assert.deepEqual(problemsOf({ TIDINGS_JWT_SECRET: 'x'.repeat(32) }), [])
  assert.deepEqual(problemsOf({}), [])
})

test('ports, name servers, proxy, public URL and origins are read, or named where they are none', () => {
  const config = readConfig({
    TIDINGS_ALLOW_PORTS: '443, 9000',
    TIDINGS_DNS_SERVERS: '127.0.0.1:5353,::1,[::1]:53,9.9.9.9',
    TIDINGS_EGRESS_PROXY: 'http://user:pass@proxy.internal:3128',
    TIDINGS_PUBLIC_URL: 'https://hooks.example.com/',
    TIDINGS_CORS_ORIGINS: 'https://app.example.com,http://127.0.0.1:3000',
  })
  assert.deepEqual(config.allowPorts, [443, 9000])
  assert.deepEqual(config.dnsServers, ['127.0.0.1:5353', '::1', '[::1]:53', '9.9.9.9'])
  assert.equal(config.egressProxy?.host, 'proxy.internal:3128')
  assert.equal(config.publicUrl, 'https://hooks.example.com')
  const wrong = {
    TIDINGS_ALLOW_PORTS: ['0', '70000', 'https', ','],
    TIDINGS_DNS_SERVERS: ['dns.example.com', '1.2.3', '127.0.0.1:dns'],
    TIDINGS_EGRESS_PROXY: ['socks5://127.0.0.1:1080', 'proxy:3128'],
    TIDINGS_PUBLIC_URL: ['hooks.example.com', 'https://user@hooks.example.com', 'ftp://hooks.example.com'],
    TIDINGS_CORS_ORIGINS: ['app.example.com', 'https://app.example.com/', 'null'],
    TIDINGS_RATE_LIMIT: ['-1', 'many'],
  }
  for (const [name, values] of Object.entries(wrong)) {
    for (const value of values) assert.match(problemsOf({ [name]: value }).join(), new RegExp(`^${name}`), `${name}=${value}`)
  }
})

test('replicas are told apart by host and port, and may have a role of their own', () => {
  const urls = ['postgres://reader:a@one:5432/tidings', 'postgresql://other@two/tidings?sslmode=require']
  const { databaseReplicaUrls, replicaMaxLagMs } = readConfig({ DATABASE_REPLICA_URLS: urls.join(', ') })
  assert.deepEqual([databaseReplicaUrls, replicaMaxLagMs], [urls, 5000])
  assert.deepEqual(readConfig({ DATABASE_REPLICA_URLS: '' }).databaseReplicaUrls, [])
  for (const wrong of ['http://one', `${urls[0]},postgres://b@one:5432/other`, 'one:5432']) {
    assert.match(problemsOf({ DATABASE_REPLICA_URLS: wrong }).join(), /^DATABASE_REPLICA_URLS: takes/, wrong)
  }
  assert.match(problemsOf({ TIDINGS_REPLICA_MAX_LAG_MS: '50' }).join(), /^TIDINGS_REPLICA_MAX_LAG_MS/)
})

test('members of a configuration cluster differ in host and port alone', () => {
  const member = (host: string, rest = '') => `postgres://tidings:secret@${host}/configuration${rest}`
  const urls = [member('one:5432'), member('two:5433')]
  assert.deepEqual(readConfig({ CONFIG_DATABASE_URLS: urls.join(', ') }).configDatabaseUrls, urls)
  assert.deepEqual(readConfig({}).configDatabaseUrls, [])
  for (const wrong of [
    'one:5432',
    'http://one/x',
    `${urls[0]},${member('two', '?sslmode=require')}`,
    `${urls[0]},postgres://other@two/x`,
  ]) {
    assert.match(problemsOf({ CONFIG_DATABASE_URLS: wrong }).join(), /^CONFIG_DATABASE_URLS: takes/, wrong)
  }
})
