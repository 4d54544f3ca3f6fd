import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pino from 'pino'
import { newId } from '../../domain/ids.ts'
import { createCipher } from '../../storage/cipher.ts'
import { createConfigCache, type ConfigCache } from '../../storage/config-cache.ts'
import { CONFIG_CHANNEL, notifyConfigChange } from '../../storage/config-changes.ts'
import { insertSecret, rotateSecret } from '../../storage/endpoint-secrets.ts'
import { listen, type Listener } from '../../storage/listener.ts'
import { inTransaction, type Pool } from '../../storage/pool.ts'
import { createStorage, type Storage } from './rows.ts'

const ORG = 'org_1'
const HEARD_WITHIN_MS = 1000
const cipher = createCipher('a key for tests, 32 characters or more')
const log = pino({ level: 'silent' })
let storage: Storage
let cache: ConfigCache
let listener: Listener
let gaps = 0
/** Called at each notification, and at each connection of the listener. */
const heard = new Set<() => void>()

before(async () => {
  storage = await createStorage()
  cache = createConfigCache({ pool: storage.pool, cipher, log })
  const ready = nextHeard()
  const tell = () => {
    for (const one of [...heard]) one()
  }
  listener = listen(
    storage.url,
    {
      [CONFIG_CHANNEL](appId) {
        cache.forget(appId)
        tell()
      },
    },
    () => {
      gaps++
      cache.forgetAll()
      tell()
    },
  )
  await ready
})

after(async () => {
  await listener.stop()
  await storage.drop()
})

function nextHeard(): Promise<number> {
  return new Promise((resolve) => {
    const one = () => {
      heard.delete(one)
      resolve(performance.now())
    }
    heard.add(one)
  })
}

async function application(uid: string | null = null): Promise<string> {
  const id = newId('app')
  await storage.pool.query(`INSERT INTO application (id, org_id, uid, name) VALUES ($1, $2, $3, 'test')`, [id, ORG, uid])
  return id
}

async function endpoint(appId: string, url = 'https://example.com/webhook'): Promise<string> {
  const id = newId('ep')
  await storage.pool.query('INSERT INTO endpoint (id, app_id, url, headers_cipher) VALUES ($1, $2, $3, $4)', [
    id,
    appId,
    url,
    cipher.encrypt('{"x-key":"k"}'),
  ])
  await insertSecret(storage.pool, id, cipher.encrypt('whsec_current'))
  return id
}

/** A pool whose next matching query waits, after Postgres has answered it, until `go` is called. */
function slowPool(): { pool: Pool; held: Promise<void>; go: () => void } {
  let go: () => void = () => undefined
  let isHeld: () => void = () => undefined
  const opened = new Promise<void>((resolve) => (go = resolve))
  const held = new Promise<void>((resolve) => (isHeld = resolve))
  const query = async (...args: Parameters<Pool['query']>) => {
    const result: unknown = await (storage.pool.query as (...all: unknown[]) => Promise<unknown>)(...args)
    isHeld()
    await opened
    return result
  }
  return { pool: { query } as unknown as Pool, held, go: () => go() }
}

test('an endpoint is read with its headers and live secrets, the current one first', async () => {
  const appId = await application()
  const id = await endpoint(appId, 'https://example.com:8443/a')
  await inTransaction(storage.pool, (client) => rotateSecret(client, id, cipher.encrypt('whsec_new'), 3600))
  const { list, byId } = await cache.endpoints(appId)
  assert.equal(list.length, 1)
  const one = byId.get(id)!
  assert.deepEqual([one.host, one.headers, one.disabled], ['example.com:8443', { 'x-key': 'k' }, false])
  assert.deepEqual(
    one.secrets.map((secret) => [secret.secret, secret.expiresAtMs === null]),
    [
      ['whsec_new', true],
      ['whsec_current', false],
    ],
  )
})

test('an application is found by id and by uid, in its own organisation alone', async () => {
  const id = await application('uid 1')
  assert.equal((await cache.application(ORG, id))?.id, id)
  assert.equal((await cache.application(ORG, 'uid 1'))?.id, id)
  assert.equal(await cache.application('org_2', id), undefined)
  assert.equal(await cache.application('org_2', 'uid 1'), undefined)
})

test('an application that did not exist is found as soon as it does', async () => {
  assert.equal(await cache.application(ORG, 'late'), undefined)
  const id = await application('late')
  assert.equal((await cache.application(ORG, 'late'))?.id, id)
})

test('a change is seen in less than a second of its commit, and not before it', async () => {
  const appId = await application()
  const id = await endpoint(appId)
  await cache.endpoints(appId)
  const told = nextHeard()
  const committedAt = await inTransaction(storage.pool, async (client) => {
    await client.query('UPDATE endpoint SET disabled = true WHERE id = $1', [id])
    await notifyConfigChange(client, appId)
    assert.equal((await cache.endpoints(appId)).byId.get(id)?.disabled, false)
  }).then(() => performance.now())
  const toldAfterMs = (await told) - committedAt
  assert.ok(toldAfterMs < HEARD_WITHIN_MS, `${toldAfterMs} ms`)
  assert.equal((await cache.endpoints(appId)).byId.get(id)?.disabled, true)
})

test('endpoints whose load overlaps a change are used by who asked before it, and kept for nobody', async () => {
  const slow = slowPool()
  const cached = createConfigCache({ pool: slow.pool, cipher, log })
  const appId = await application()
  const id = await endpoint(appId)
  const before = cached.endpoints(appId)
  await slow.held
  await storage.pool.query('UPDATE endpoint SET disabled = true WHERE id = $1', [id])
  cached.forget(appId)
  const after = cached.endpoints(appId)
  slow.go()
  assert.equal((await before).byId.get(id)?.disabled, false)
  assert.equal((await after).byId.get(id)?.disabled, true)
  assert.equal((await cached.endpoints(appId)).byId.get(id)?.disabled, true)
})

for (const how of ['forget', 'forgetAll'] as const) {
  test(`an application whose load overlaps a change is kept for nobody (${how})`, async () => {
    const slow = slowPool()
    const cached = createConfigCache({ pool: slow.pool, cipher, log })
    const appId = await application(`uid ${how}`)
    const before = cached.application(ORG, appId)
    await slow.held
    await storage.pool.query('UPDATE application SET deleted_at = now() WHERE id = $1', [appId])
    if (how === 'forget') cached.forget(appId)
    else cached.forgetAll()
    slow.go()
    assert.equal((await before)?.id, appId)
    assert.equal(await cached.application(ORG, appId), undefined)
  })
}

test('a load that fails is not kept', async () => {
  let fails = true
  const query = (...args: Parameters<Pool['query']>) =>
    fails ? Promise.reject(new Error('away')) : (storage.pool.query as (...all: unknown[]) => unknown)(...args)
  const cached = createConfigCache({ pool: { query } as unknown as Pool, cipher, log })
  const appId = await application()
  await assert.rejects(cached.endpoints(appId), /away/)
  await assert.rejects(cached.application(ORG, appId), /away/)
  fails = false
  assert.deepEqual((await cached.endpoints(appId)).list, [])
  assert.equal((await cached.application(ORG, appId))?.id, appId)
})

test('a listener whose connection is cut connects again, and what may have been missed is read anew', async () => {
  const appId = await application()
  const id = await endpoint(appId)
  await cache.endpoints(appId)
  const before = gaps
  const reconnected = nextHeard()
  await storage.pool.query(
    `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'tidings listener'`,
  )
  await storage.pool.query('UPDATE endpoint SET disabled = true WHERE id = $1', [id])
  await reconnected
  assert.equal(gaps, before + 1)
  assert.equal((await cache.endpoints(appId)).byId.get(id)?.disabled, true)
  const told = nextHeard()
  await notifyConfigChange(storage.pool, appId)
  await told
})
