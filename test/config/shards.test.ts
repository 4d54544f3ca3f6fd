import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ConfigError, readConfig } from '../../config/index.ts'

const CONFIG = 'postgres://tidings@configuration/tidings'
const first = 'postgres://tidings@shard-0/tidings'
const second = 'postgres://tidings@shard-1/tidings'
const shards = (urls: readonly string[], more: Record<string, string> = {}) => ({
  DATABASE_SHARD_URLS: urls.join(', '),
  CONFIG_DATABASE_URLS: CONFIG,
  ...more,
})

function problemOf(env: Record<string, string>): string {
  try {
    readConfig(env)
    return ''
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.message
  }
}

test('a process serves its shard: database, namespace, name and archive are those of the shard', () => {
  const config = readConfig(
    shards([first, `${second}#from=2026-12-05&until=2027-01-01`], { TIDINGS_SHARD: '1', TIDINGS_ARCHIVE_URL: 'file:///archive/' }),
  )
  assert.equal(config.databaseUrl, second)
  assert.equal(config.temporalNamespace, 'tidings-local-shard-1')
  assert.equal(config.copyName, 'local-shard-1')
  assert.equal(config.archive?.url, 'file:///archive/shard-1')
  assert.deepEqual(
    config.shards?.all.map(({ fromMs, untilMs }) => [fromMs, untilMs]),
    [
      [-Infinity, Infinity],
      [Date.parse('2026-12-05'), Date.parse('2027-01-01')],
    ],
  )
})

test('the first shard is what one database was', () => {
  const [one, all] = [readConfig({ DATABASE_URL: first, TIDINGS_ARCHIVE_URL: 'file:///archive' }), readConfig(shards([first, second]))]
  assert.deepEqual([all.databaseUrl, all.temporalNamespace, all.copyName], [one.databaseUrl, one.temporalNamespace, one.copyName])
})

test('what cannot be is refused, each with the variable and the reason', () => {
  assert.match(problemOf({ DATABASE_SHARD_URLS: first }), /^CONFIG_DATABASE_URLS: shards have one configuration/)
  assert.match(problemOf(shards([first], { DATABASE_URL: first })), /^DATABASE_URL: left out/)
  assert.match(problemOf(shards([first], { TIDINGS_SHARD: '1' })), /^TIDINGS_SHARD: DATABASE_SHARD_URLS has shards 0 to 0/)
  assert.match(problemOf({ TIDINGS_SHARD: '1' }), /^TIDINGS_SHARD: goes with DATABASE_SHARD_URLS/)
  assert.match(problemOf(shards([first, first])), /shard-0\/tidings is there twice/)
  assert.match(problemOf(shards([first, 'mysql://shard-1'])), /takes postgres/)
  assert.match(problemOf(shards([first, `${second}#from=tomorrow`])), /"#from=tomorrow": takes #from=2026-12-05/)
  assert.match(problemOf(shards([`${first}#from=2026-12-05`])), /the first shard has no beginning/)
  assert.match(problemOf(shards([first], { DATABASE_REPLICA_URLS: second })), /^DATABASE_REPLICA_URLS: not with/)
})
