import assert from 'node:assert/strict'
import { after, before, test, type TestContext } from 'node:test'
import { createClient } from '@redis/client'
import pino from 'pino'
import { newId } from '../../domain/ids.ts'
import { createCipher } from '../../storage/cipher.ts'
import { createConfigCache, type ConfigCache } from '../../storage/config-cache.ts'
import { insertSecret } from '../../storage/endpoint-secrets.ts'
import type { Pool } from '../../storage/pool.ts'
import { createSharedCache, type SharedCache } from '../../storage/shared-cache.ts'
import { eventually } from '../support/eventually.ts'
import { startRedis, type RedisServer } from '../support/redis.ts'
import { createStorage, type Storage } from './rows.ts'

const cipher = createCipher('a key for tests, 32 characters or more')
const log = pino({ level: 'silent' })
let storage: Storage

before(async () => {
  storage = await createStorage()
})

after(() => storage.drop())

interface Process {
  readonly cache: ConfigCache
  readonly shared: SharedCache
  /** Statements that read endpoints from Postgres. */
  readonly reads: () => number
}

/** What one process of the service has, on Redis and the database of this file. */
function startProcess(t: TestContext, redis: RedisServer, options: { hold?: Promise<void>; key?: string } = {}): Process {
  let reads = 0
  const query = async (...args: unknown[]) => {
    const result = await (storage.pool.query as (...all: unknown[]) => Promise<unknown>)(...args)
    if ((args[0] as { name?: string }).name === 'cache-endpoints') reads++
    await options.hold
    return result
  }
  const shared = createSharedCache(redis.url, log)
  t.after(() => shared.stop())
  const own = options.key === undefined ? cipher : createCipher(options.key)
  const cache = createConfigCache({ pool: { query } as unknown as Pool, cipher: own, log, shared })
  return { cache, shared, reads: () => reads }
}

/** Once the connection is there, reads are counted. */
async function connected(process: Process): Promise<Process> {
  await eventually(
    async () => {
      await process.shared.read(['nothing'])
      return process.shared.counts().misses
    },
    (misses) => misses > 0,
  )
  return process
}

async function redisOf(t: TestContext): Promise<RedisServer | undefined> {
  const redis = await startRedis()
  if (redis === undefined) t.skip('redis-server is not on the path')
  else t.after(() => redis.stop())
  return redis
}

async function connectClient(redis: RedisServer) {
  const client = createClient({ url: redis.url })
  // The server may be gone first.
  client.on('error', () => undefined)
  await client.connect()
  return client
}

async function applicationWithEndpoint(): Promise<{ appId: string; endpointId: string }> {
  const appId = newId('app')
  const endpointId = newId('ep')
  await storage.pool.query(`INSERT INTO application (id, org_id, uid, name) VALUES ($1, 'org_1', NULL, 'test')`, [appId])
  await storage.pool.query(`INSERT INTO endpoint (id, app_id, url) VALUES ($1, $2, 'https://example.com/shared')`, [endpointId, appId])
  await insertSecret(storage.pool, endpointId, cipher.encrypt('whsec_shared'))
  return { appId, endpointId }
}

async function disable(endpointId: string): Promise<void> {
  await storage.pool.query('UPDATE endpoint SET disabled = true WHERE id = $1', [endpointId])
}

const isDisabled = async (cache: ConfigCache, appId: string) => (await cache.endpoints(appId)).list[0]?.disabled

test('what one process has loaded another finds in Redis, secrets included', async (t) => {
  const redis = await redisOf(t)
  if (redis === undefined) return
  const one = await connected(startProcess(t, redis))
  const other = await connected(startProcess(t, redis))
  const { appId, endpointId } = await applicationWithEndpoint()
  await one.cache.endpoints(appId)
  await eventually(
    async () => (await one.shared.read([appId])).values.size,
    (size) => size === 1,
  )
  const endpoint = (await other.cache.endpoints(appId)).byId.get(endpointId)
  assert.equal(endpoint?.secrets[0]?.secret, 'whsec_shared')
  assert.deepEqual([one.reads(), other.reads()], [1, 0])
})

test('Redis shows nothing of an endpoint, and what was altered there is not used', async (t) => {
  const redis = await redisOf(t)
  if (redis === undefined) return
  const one = await connected(startProcess(t, redis))
  const { appId } = await applicationWithEndpoint()
  const { appId: otherId } = await applicationWithEndpoint()
  await Promise.all([one.cache.endpoints(appId), one.cache.endpoints(otherId)])
  const client = await connectClient(redis)
  t.after(() => client.destroy())
  const key = (id: string) => `tidings:2:{${id}}:value`
  await eventually(
    () => client.exists([key(appId), key(otherId)]),
    (there) => there === 2,
  )
  const text = (await client.get(key(appId))) ?? ''
  assert.ok(!/example|whsec|shared/.test(text))
  await client.copy(key(otherId), key(appId), { REPLACE: true })
  await client.set(key(otherId), 'nonsense')
  const other = await connected(startProcess(t, redis))
  assert.equal((await other.cache.endpoints(appId)).list[0]?.appId, appId)
  assert.equal((await other.cache.endpoints(otherId)).list[0]?.appId, otherId)
  assert.equal(other.reads(), 2)
})

test('a process with another encryption key reads Postgres, where it can', async (t) => {
  const redis = await redisOf(t)
  if (redis === undefined) return
  const one = await connected(startProcess(t, redis))
  const { appId } = await applicationWithEndpoint()
  await one.cache.endpoints(appId)
  const other = await connected(startProcess(t, redis, { key: 'another key for tests, 32 characters' }))
  await assert.rejects(other.cache.endpoints(appId), { code: 'cipher_mismatch' })
})

test('what was read before a change does not come into Redis after it', async (t) => {
  const redis = await redisOf(t)
  if (redis === undefined) return
  let go: () => void = () => undefined
  const hold = new Promise<void>((resolve) => (go = resolve))
  const slow = await connected(startProcess(t, redis, { hold }))
  const other = await connected(startProcess(t, redis))
  const { appId, endpointId } = await applicationWithEndpoint()
  const before = slow.cache.endpoints(appId)
  await eventually(
    async () => slow.reads(),
    (reads) => reads === 1,
  )
  await disable(endpointId)
  // The slow process has not heard of the change yet.
  other.cache.forget(appId)
  await other.shared.read([appId])
  go()
  assert.equal((await before).list[0]?.disabled, false)
  // Its connection answers in order: its write is over.
  assert.equal((await slow.shared.read([appId])).values.size, 0)
  assert.equal(await isDisabled(other.cache, appId), true)
})

test('a change while Redis is away reaches it before it is read again', async (t) => {
  const redis = await redisOf(t)
  if (redis === undefined) return
  const one = await connected(startProcess(t, redis))
  const { appId, endpointId } = await applicationWithEndpoint()
  await one.cache.endpoints(appId)
  // The old value comes back with the server, as from a partition of the network.
  const client = await connectClient(redis)
  await eventually(
    () => client.exists(`tidings:2:{${appId}}:value`),
    (there) => there === 1,
  )
  client.destroy()
  redis.signal('SIGSTOP')
  await disable(endpointId)
  const startedMs = performance.now()
  one.cache.forget(appId)
  assert.equal(await isDisabled(one.cache, appId), true)
  assert.ok(performance.now() - startedMs < 5000, 'Redis is not waited for')
  redis.signal('SIGCONT')
  const other = await connected(startProcess(t, redis))
  await eventually(
    async () => isDisabled(other.cache, appId),
    (disabled) => disabled === true,
    1000,
  )
})

test('without Redis everything works, and it is used when it comes', async (t) => {
  const first = await redisOf(t)
  if (first === undefined) return
  await first.stop()
  const one = startProcess(t, first)
  const { appId } = await applicationWithEndpoint()
  assert.equal((await one.cache.endpoints(appId)).list.length, 1)
  assert.equal(one.shared.counts().misses, 0)
  const second = await startRedis(Number(new URL(first.url).port))
  t.after(() => second?.stop())
  await connected(one)
  one.cache.forgetAll()
  await one.cache.endpoints(appId)
  assert.ok(one.shared.counts().misses > 0)
})
