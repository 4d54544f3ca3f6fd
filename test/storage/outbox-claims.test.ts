import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import type { Redelivery } from '../../domain/message.ts'
import { DEFAULT_WEIGHTS, PRIORITIES } from '../../domain/priority.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { claimExpiredGroup, claimRows, claimWaiting, enqueueRedeliveries, type OutboxRow } from '../../storage/outbox.ts'
import { count, createStorage, newMessages, type Storage } from './rows.ts'

const LEASE_MS = 60_000
let storage: Storage

before(async () => {
  storage = await createStorage(12)
})

afterEach(() => storage.pool.query('TRUNCATE message, message_event_id, outbox'))
after(() => storage.drop())

const claim = (max: number, minAgeMs = 0) => claimWaiting(storage.pool, { max, minAgeMs, leaseMs: LEASE_MS, weights: DEFAULT_WEIGHTS })

const ids = (rows: readonly { id: string }[]) => rows.map((row) => row.id).sort()
const redelivery = (changes: Partial<Redelivery> = {}): Redelivery => ({
  messageId: newId('msg'),
  appId: 'app_1',
  eventType: 'invoice.paid',
  endpointId: 'ep_1',
  trigger: 1,
  retried: true,
  ...changes,
})

async function groups(): Promise<Map<string, string[]>> {
  const { rows } = await storage.pool.query<{ id: string; group_id: string }>('SELECT id, group_id FROM outbox ORDER BY id')
  const found = new Map<string, string[]>()
  for (const row of rows) found.set(row.group_id, [...(found.get(row.group_id) ?? []), row.id])
  return found
}

/** Claims until nothing waits. */
async function claimAll(max: number): Promise<OutboxRow[][]> {
  const claimed: OutboxRow[][] = []
  for (;;) {
    const rows = await claim(max)
    if (rows.length > 0) claimed.push(rows)
    else if ((await count(storage.pool, 'outbox', 'group_id IS NULL')) === 0) return claimed
  }
}

test('racing sweepers share no row, leave none, and each group in Postgres is what one of them holds', async () => {
  for (let round = 0; round < 5; round++) {
    const messages = Array.from({ length: 4 }, (_, app) => newMessages(60, { appId: `app_${app}` })).flat()
    await acceptMessages(storage.pool, messages, false, 0)
    const claimed = (await Promise.all(Array.from({ length: 8 }, () => claimAll(7)))).flat()
    assert.deepEqual(ids(claimed.flat()), ids(messages))
    const recorded = await groups()
    for (const group of claimed) {
      assert.ok(group.length <= 7)
      assert.deepEqual(recorded.get(group[0]!.id), ids(group))
    }
    assert.equal(recorded.size, claimed.length)
    await storage.pool.query('TRUNCATE message, outbox')
  }
})

test('a process that claims its own rows while sweepers do too gets those that nobody else has, under a name of its own', async () => {
  for (let round = 0; round < 10; round++) {
    const messages = newMessages(90)
    await acceptMessages(storage.pool, messages, false, 0)
    const own = async () => {
      const claims = []
      for (let i = 0; i < messages.length; i += 10) {
        const claim = await claimRows(
          storage.pool,
          messages.slice(i, i + 10).map((one) => one.id),
          LEASE_MS,
        )
        if (claim !== undefined) claims.push({ groupId: claim.groupId, ids: [...claim.ids].sort() })
      }
      return claims
    }
    const sweeping = Array.from({ length: 3 }, async () => (await claimAll(9)).map((rows) => ({ groupId: rows[0]!.id, ids: ids(rows) })))
    const claims = (await Promise.all([own(), ...sweeping])).flat()
    assert.deepEqual(claims.flatMap((claim) => claim.ids).sort(), ids(messages))
    assert.deepEqual(new Map(claims.map((claim) => [claim.groupId, claim.ids])), await groups())
    await storage.pool.query('TRUNCATE message, outbox')
  }
})

test('a group has one kind of rows: the same endpoint, trigger and retrying', async () => {
  await acceptMessages(storage.pool, newMessages(9), false, 0)
  const kinds = (['ep_1', 'ep_2'] as const).flatMap((endpointId) =>
    ([0, 1] as const).flatMap((trigger) => [true, false].map((retried) => ({ endpointId, trigger, retried }))),
  )
  await enqueueRedeliveries(
    storage.pool,
    kinds.flatMap((kind) => Array.from({ length: 5 }, () => redelivery(kind))),
    'request',
  )
  const claimed = await claimAll(4)
  assert.equal(claimed.flat().length, 9 + 8 * 5)
  for (const group of claimed) {
    const kindsOfGroup = new Set(group.map((row) => `${row.endpointId} ${row.trigger} ${row.retried}`))
    assert.equal(kindsOfGroup.size, 1, [...kindsOfGroup].join(', '))
  }
})

test('a group is filled in turn from each application', async () => {
  await acceptMessages(storage.pool, newMessages(30, { appId: 'app_flood' }), false, 0)
  await acceptMessages(storage.pool, newMessages(3, { appId: 'app_modest' }), false, 0)
  const group = await claim(10)
  assert.equal(group.filter((row) => row.appId === 'app_modest').length, 3)
  assert.equal(group.length, 10)
})

test('a thousand older rows of another application do not keep a row out of the next group', async () => {
  await acceptMessages(storage.pool, newMessages(1000, { appId: 'app_flood' }), false, 0)
  const modest = newMessages(1, { appId: 'app_modest' })
  await acceptMessages(storage.pool, modest, false, 0)
  assert.ok((await claim(10)).some((row) => row.id === modest[0]!.id))
})

test('lines of different priority are claimed by their weights, and none waits for another to end', async () => {
  for (const [appId, priority] of [...PRIORITIES.map((one) => ['app_1', one]), ['app_2', 'low']] as const) {
    const messages = newMessages(100, { appId })
    await acceptMessages(storage.pool, messages, false, 0)
    await storage.pool.query('UPDATE outbox SET priority = $1 WHERE id = ANY($2)', [priority, ids(messages)])
  }
  const { rows } = await storage.pool.query<{ priority: string; count: number }>(
    'SELECT priority, count(*)::int FROM outbox WHERE id = ANY($1) GROUP BY priority ORDER BY priority',
    [ids(await claim(28))],
  )
  assert.deepEqual(rows, [
    { priority: 'high', count: 16 },
    { priority: 'low', count: 4 },
    { priority: 'medium', count: 8 },
  ])
})

test('a flood of one kind does not keep another kind waiting', async () => {
  const flood = Array.from({ length: 200 }, () => redelivery({ appId: 'app_flood' }))
  await enqueueRedeliveries(storage.pool, flood, 'request')
  await acceptMessages(storage.pool, newMessages(1, { appId: 'app_modest' }), false, 0)
  for (let claims = 1; ; claims++) {
    const group = await claim(2)
    if (group.some((row) => row.appId === 'app_modest')) break
    assert.ok(claims < 60, 'after 60 claims it still waits')
  }
})

test('young rows are left to the process that accepted them', async () => {
  await acceptMessages(storage.pool, newMessages(2), false, 0)
  assert.deepEqual(await claim(10, 60_000), [])
  await storage.pool.query(`UPDATE outbox SET created_at = now() - interval '2 minutes'`)
  assert.equal((await claim(10, 60_000)).length, 2)
})

test('a recorded group is claimed only when its lease has run out, whole, and under its own name', async () => {
  const messages = newMessages(5)
  const { groupId } = await acceptMessages(storage.pool, messages, true, LEASE_MS)
  assert.equal(await claimExpiredGroup(storage.pool, LEASE_MS), undefined)
  assert.deepEqual(await claim(10), [])
  assert.equal(await claimRows(storage.pool, ids(messages), LEASE_MS), undefined)
  await storage.pool.query(`UPDATE outbox SET leased_until = now() - interval '1 ms'`)
  const claimed = await claimExpiredGroup(storage.pool, LEASE_MS)
  assert.equal(claimed?.groupId, groupId)
  assert.deepEqual(ids(claimed?.rows ?? []), ids(messages))
  assert.equal(await claimExpiredGroup(storage.pool, LEASE_MS), undefined)
})

test('sweepers that race for expired groups get each group once', async () => {
  for (let round = 0; round < 5; round++) {
    for (let group = 0; group < 12; group++) await acceptMessages(storage.pool, newMessages(20), true, 0)
    await storage.pool.query(`UPDATE outbox SET leased_until = now() - interval '1 s'`)
    const sweep = async () => {
      const claimed: string[] = []
      for (;;) {
        const group = await claimExpiredGroup(storage.pool, LEASE_MS)
        if (group === undefined) return claimed
        assert.equal(group.rows.length, 20)
        claimed.push(group.groupId)
      }
    }
    const claimed = (await Promise.all(Array.from({ length: 8 }, sweep))).flat()
    assert.equal(claimed.length, 12)
    assert.equal(new Set(claimed).size, 12)
    await storage.pool.query('TRUNCATE message, outbox')
  }
})

test('the same request puts a delivery in once, another request once more', async () => {
  const one = redelivery()
  await enqueueRedeliveries(storage.pool, [one], 'request 1')
  await enqueueRedeliveries(storage.pool, [one, redelivery()], 'request 1')
  await enqueueRedeliveries(storage.pool, [one], 'request 2')
  assert.equal(await count(storage.pool, 'outbox'), 3)
})
