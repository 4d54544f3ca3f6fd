import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createToken } from '../../api/token.ts'
import { newId } from '../../domain/ids.ts'
import { shardOf } from '../../domain/shards.ts'
import { createPool } from '../../storage/pool.ts'
import { claimShard } from '../../storage/shard.ts'
import { createCalls, numberOf, numbers, type Calls } from '../support/calls.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { TEST_SECRET } from '../support/service.ts'
import { startTestServer, type TestServer } from '../support/shared-configuration.ts'
import { startTestTemporal } from '../support/temporal.ts'
import { startShard, type ShardProcess } from './stage.ts'

// One database until today; then a second one takes its share of the applications.
const today = new Date().toISOString().slice(0, 10)
const DAY_MS = 86_400_000
const both = [
  { number: 0, fromMs: -Infinity, untilMs: Infinity },
  { number: 1, fromMs: Date.parse(today), untilMs: Infinity },
]
const servers: TestServer[] = []
const processes: ShardProcess[] = []
let receiver: Receiver
let first: Calls
let second: Calls
/** An application that moves to the second database, and one that stays. */
let moving: { app: string; endpoint: string }
let staying: { app: string; endpoint: string }
/** Messages of the one that moves, from before it did. */
let old: string[]
let startBoth: () => Promise<void>
let orgToken: string

async function endpointOn(calls: Calls, number: number, path: string): Promise<{ app: string; endpoint: string }> {
  for (;;) {
    const made = await calls.endpointWith(`${receiver.url}${path}`, {})
    if (shardOf(both, made.app, Date.now()).number === number) return made
  }
}

const arrived = (path: string) => receiver.received.filter((one) => one.path === path)
const data = ({ json }: { json: Record<string, unknown> }) => json['data'] as { id: string; eventId?: string; msgId?: string }[]
const ids = (reply: { json: Record<string, unknown> }) => data(reply).map(({ id }) => id)

async function countIn(process: ShardProcess, app: string): Promise<number> {
  const { rows } = await process.pool.query<{ count: number }>('SELECT count(*) FROM message WHERE app_id = $1', [app])
  return rows[0]!.count
}

before(async () => {
  servers.push(...(await Promise.all(['config', 'shard-0', 'shard-1'].map(startTestServer))))
  const [config, ...shards] = servers
  const temporal = await startTestTemporal()
  orgToken = await createToken({ secret: TEST_SECRET, subject: newId('org') })
  receiver = await startReceiver(({ path }) => ({ status: path === '/refuses' ? 500 : 200 }))
  const options = { configUrl: config!.url, temporal }
  const alone = await startShard({ ...options, shardUrls: [shards[0]!.url], own: 0 })
  const calls = createCalls({ url: alone.url, token: orgToken })
  moving = await endpointOn(calls, 1, '/moving')
  staying = await endpointOn(calls, 0, '/staying')
  old = []
  for (const n of numbers(5)) old.push(await calls.publish(moving.app, n, { eventId: `event-${n}` }))
  await receiver.waitFor(5, { matches: ({ path }) => path === '/moving' })
  await alone.stop()
  startBoth = async () => {
    const shardUrls = [shards[0]!.url, `${shards[1]!.url}#from=${today}`]
    const one = await startShard({ ...options, shardUrls, own: 1 })
    processes.push(await startShard({ ...options, shardUrls, own: 0 }), one)
    first = createCalls({ url: processes[0]!.url, token: orgToken })
    second = createCalls({ url: processes[1]!.url, token: orgToken })
  }
  await startBoth()
  // The one that started first finds the other database claimed at its next try.
  await eventually(
    async () => (await second.call('GET', `/app/${moving.app}/msg`)).status,
    (status) => status === 200,
  )
})

after(async () => {
  for (const one of processes) await one.stop()
  await receiver?.close()
  for (const one of servers) await one.remove()
})

test('what an application publishes from the first day of a new shard on is there, whichever process accepts it', async () => {
  const began = arrived('/moving').length
  for (const n of numbers(10, 10)) await (n % 2 === 0 ? first : second).publish(moving.app, n)
  for (const n of numbers(3)) await second.publish(staying.app, n)
  await receiver.waitFor(began + 10, { matches: ({ path }) => path === '/moving' })
  await receiver.waitFor(3, { matches: ({ path }) => path === '/staying' })
  assert.deepEqual(await Promise.all(processes.map((one) => countIn(one, moving.app))), [5, 10])
  assert.deepEqual(await Promise.all(processes.map((one) => countIn(one, staying.app))), [3, 0])
})

test('an endpoint that was just made is sent what is published next, in whichever shard', async () => {
  for (const calls of [first, second, first, second]) {
    const { app } = await endpointOn(calls, 1, '/new')
    const seen = arrived('/new').length
    await calls.publish(app, 1)
    await receiver.waitFor(seen + 1, { matches: ({ path }) => path === '/new' })
  }
})

test('lists are in order over all shards, page by page, forwards and back', async () => {
  const whole = ids(await first.call('GET', `/app/${moving.app}/msg?limit=100`))
  assert.equal(whole.length, 15)
  assert.deepEqual(whole, [...whole].sort().reverse())
  // Ids tell times apart by 4 ms: of two published faster than that the second may have the lower one.
  assert.deepEqual(whole.slice(-5).reverse(), [...old].sort())
  for (const calls of [first, second]) {
    const seen: string[] = []
    let iterator = ''
    for (let done = false; !done;) {
      const page = await calls.call('GET', `/app/${moving.app}/msg?limit=4${iterator}`)
      seen.push(...ids(page))
      iterator = `&iterator=${String(page.json['iterator'])}`
      done = page.json['done'] === true
    }
    assert.deepEqual(seen, whole)
    const back = await calls.call('GET', `/app/${moving.app}/msg?limit=4&iterator=-${whole[12]}`)
    assert.deepEqual(ids(back), whole.slice(8, 12))
  }
  const oldest = await first.call('GET', `/app/${moving.app}/msg?limit=7&after=${new Date(Date.now() - DAY_MS).toISOString()}`)
  assert.deepEqual(ids(oldest), whole.slice(-7))
  const attempts = await eventually(
    () => first.call('GET', `/app/${moving.app}/attempt/endpoint/${moving.endpoint}?limit=100`),
    (reply) => data(reply).length >= 15,
  )
  assert.equal(data(attempts).length, 15)
  assert.deepEqual(ids(attempts), [...ids(attempts)].sort().reverse())
  const sent = await second.call('GET', `/app/${moving.app}/endpoint/${moving.endpoint}/msg?limit=100`)
  assert.deepEqual(ids(sent), whole)
})

test('a message is found where it is, by its id and by its event id', async () => {
  const [newest] = ids(await first.call('GET', `/app/${moving.app}/msg?limit=1`))
  for (const calls of [first, second]) {
    for (const name of [old[0]!, 'event-0', newest!]) {
      const found = await calls.call('GET', `/app/${moving.app}/msg/${name}`)
      assert.equal(found.status, 200, name)
      const attempts = await eventually(
        async () => data(await calls.call('GET', `/app/${moving.app}/attempt/msg/${name}`)),
        (all) => all.length > 0,
      )
      assert.equal(attempts.length, 1)
    }
    assert.equal((await calls.call('GET', `/app/${moving.app}/msg/${newId('msg')}`)).status, 404)
    assert.equal((await calls.call('GET', `/app/${newId('app')}/msg`)).status, 404)
  }
  const seen = arrived('/moving').length
  const resent = await second.call('POST', `/app/${moving.app}/msg/${old[1]}/endpoint/${moving.endpoint}/resend`)
  assert.equal(resent.status, 202)
  await receiver.waitFor(seen + 1, { matches: ({ path }) => path === '/moving' })
  assert.equal(numberOf(arrived('/moving').at(-1)!), 1)
})

test('an event id and an idempotency key that were taken in the shard before stay taken', async () => {
  const again = await first.call('POST', `/app/${moving.app}/msg`, { eventType: 'step.taken', payload: {}, eventId: 'event-2' })
  assert.equal(again.status, 409)
  const messages = [
    { eventType: 'step.taken', payload: {} },
    { eventType: 'step.taken', payload: {}, eventId: 'event-3' },
  ]
  const together = await second.call('POST', `/app/${moving.app}/msg/batch`, { messages })
  assert.equal(together.status, 409)
  assert.match(String(together.json['detail']), /messages\[1\]/)
  const publish = async (base: string, path: string) => {
    const headers = { authorization: `Bearer ${orgToken}`, 'idempotency-key': 'once' }
    const response = await fetch(`${base}/api/v1${path}`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ eventType: 'a', payload: {} }),
    })
    return ((await response.json()) as { id: string }).id
  }
  const path = `/app/${moving.app}/msg`
  const id = await publish(processes[0]!.url, path)
  assert.equal(await publish(processes[1]!.url, path), id)
  // As if it had been published before the move.
  const key = await processes[1]!.pool.query<{ hash: string }>('DELETE FROM idempotency_key WHERE message_id = $1 RETURNING hash', [id])
  await processes[0]!.pool.query(
    `INSERT INTO idempotency_key (day, hash, message_id, expires_at) VALUES ((now() AT TIME ZONE 'UTC')::date, $1, $2, now() + interval '1 hour')`,
    [key.rows[0]!.hash, old[4]],
  )
  assert.equal(await publish(processes[1]!.url, path), old[4])
})

test('statistics are of all shards', async () => {
  // What is published is sent, and what is sent is recorded, after the answer: both are waited for.
  const counted = async () => {
    const stats = await first.call('GET', `/app/${moving.app}/endpoint/${moving.endpoint}/stats`)
    return { success: stats.json['success'], arrived: arrived('/moving').length }
  }
  await eventually(counted, ({ success, arrived }) => arrived === 17 && success === 17)
  assert.equal((await first.call('GET', `/app/${moving.app}/stats/history?grain=minute`)).status, 200)
})

test('a replay sends what each shard has, as one task', async () => {
  const seen = arrived('/moving').length
  const since = new Date(Date.now() - DAY_MS).toISOString()
  const begun = await second.call('POST', `/app/${moving.app}/endpoint/${moving.endpoint}/bulk-replay`, { since, status: 0 })
  assert.equal(begun.status, 202)
  const id = String(begun.json['id'])
  const task = await eventually(
    async () => (await first.call('GET', `/background-task/${id}`)).json,
    (one) => one['status'] === 'finished',
  )
  assert.deepEqual(task['data'], { deliveries: 16 })
  await receiver.waitFor(seen + 16, { matches: ({ path }) => path === '/moving' })
  const listed = ids(await first.call('GET', '/background-task'))
  assert.equal(listed.filter((one) => one === id).length, 1)
})

test('a broadcast reaches each application once', async () => {
  const [a, b] = [arrived('/moving').length, arrived('/staying').length]
  const message = { eventType: 'step.taken', payload: { n: 99 } }
  const begun = await first.call('POST', '/msg/broadcast', { message, applications: [moving.app, staying.app] })
  assert.equal(begun.status, 202)
  const task = await eventually(
    async () => (await second.call('GET', `/background-task/${String(begun.json['id'])}`)).json,
    (one) => one['status'] === 'finished',
  )
  assert.deepEqual(task['data'], { messages: 2, conflicts: 0 })
  await receiver.waitFor(a + 1, { matches: ({ path }) => path === '/moving' })
  await receiver.waitFor(b + 1, { matches: ({ path }) => path === '/staying' })
})

test('dead letters of all shards are listed and put back', async () => {
  const { app } = await endpointOn(second, 1, '/refuses')
  const id = await first.publish(app, 1)
  const listed = await eventually(
    async () => data(await second.call('GET', `/app/${app}/dead-letter`)),
    (all) => all.length === 1,
  )
  assert.equal(listed[0]!.msgId, id)
  const put = await first.call('POST', `/app/${app}/dead-letter/redrive`, {})
  assert.deepEqual(put.json, { redriven: 1, done: true })
})

test('an application that is erased is erased in every shard', async () => {
  const erased = await first.call('POST', `/app/${moving.app}/erase`)
  assert.equal(erased.status, 202)
  await eventually(
    async () => Promise.all(processes.map((one) => countIn(one, moving.app))),
    (counts) => counts.every((count) => count === 0),
  )
})

test('a database is refused that is another shard, or whose days that are over would be elsewhere', async () => {
  const pool = createPool(servers[2]!.url, 1)
  const claim = (number: number, fromMs: number, untilMs = Infinity) => claimShard(pool, { number, fromMs, untilMs }, Date.now())
  try {
    await assert.rejects(claim(2, Date.parse(today)), /this database is shard 1, not 2/)
    await assert.rejects(claim(1, Date.parse(today) - DAY_MS), /had from .*, not .*: only days to come can be changed/)
    await claim(1, Date.parse(today), Date.parse(today) + 9 * DAY_MS)
    await claim(1, Date.parse(today))
  } finally {
    await pool.end()
  }
})

test('while a shard is away its applications are answered 503 and the others are served', async () => {
  const there = await endpointOn(first, 1, '/away')
  await processes[1]!.stop()
  processes.pop()
  await servers[2]!.kill()
  const refused = await first.call('POST', `/app/${there.app}/msg`, { eventType: 'step.taken', payload: {} })
  assert.equal(refused.status, 503)
  const seen = arrived('/staying').length
  await first.publish(staying.app, 7)
  await receiver.waitFor(seen + 1, { matches: ({ path }) => path === '/staying' })
  await servers[2]!.start()
  const accepted = await eventually(
    async () => (await first.call('POST', `/app/${there.app}/msg`, { eventType: 'step.taken', payload: {} })).status,
    (status) => status !== 503,
  )
  assert.equal(accepted, 202)
})
