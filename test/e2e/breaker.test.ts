import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createPool, type Pool } from '../../storage/pool.ts'
import { mostInASecond, perSecond, plot } from '../support/arrivals.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Received, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

const OPEN_MS = 4000
const MANY = 1500
/** Of the first, which opens the breaker. */
const FEW = 30

let service: TestService
let receiver: Receiver
let pool: Pool
/** What `/hook` and `/burst` answer. */
let status = 500

before(async () => {
  receiver = await startReceiver((one) => ({ status: one.path === '/hook' || one.path === '/burst' ? status : 200 }))
  service = await startTestService({
    env: { TIDINGS_RETRY_TIME_SCALE: '0.01', TIDINGS_BREAKER_OPEN_MS: String(OPEN_MS * 100), TIDINGS_RAMP_DOUBLE_MS: '1000' },
  })
  pool = createPool(service.database.url, 2)
})

after(async () => {
  await pool.end()
  await service.stop()
  await receiver.close()
})

interface Told {
  readonly type: string
  readonly atMs: number
  readonly data: Record<string, string>
}

const isHook = (one: Received) => one.path === '/hook'
const hooks = () => receiver.received.filter(isHook)
const told = (type: string): Told[] =>
  receiver.received
    .filter((one) => one.path === '/told')
    .map((one) => ({ atMs: one.atMs, ...(JSON.parse(one.body) as Omit<Told, 'atMs'>) }))
    .filter((event) => event.type === type)
const whenTold = (type: string, count = 1) =>
  eventually(
    () => Promise.resolve(told(type)),
    (events) => events.length >= count,
  ).then((events) => events[count - 1]!)

async function breakerOf(appId: string, endpointId: string): Promise<string> {
  const response = await fetch(`${service.url}/api/v1/app/${appId}/endpoint/${endpointId}/health`, {
    headers: { authorization: `Bearer ${service.token}` },
  })
  return ((await response.json()) as { breaker: { state: string } }).breaker.state
}

async function publish(appId: string, count: number): Promise<void> {
  for (let from = 0; from < count; from += 50) {
    const some = Array.from({ length: Math.min(50, count - from) }, (_, i) => from + i)
    await Promise.all(some.map((n) => service.svix.message.create(appId, { eventType: 'invoice.paid', payload: { n } })))
  }
}

async function parked(endpointId: string): Promise<number> {
  const { rows } = await pool.query<{ count: number }>(
    `SELECT count(*) AS count FROM delivery WHERE endpoint_id = $1 AND state = 'parked'`,
    [endpointId],
  )
  return rows[0]!.count
}

test('a failing endpoint is left alone, probed, and gets what waits at a rising rate', async (t) => {
  await service.svix.operationalWebhook.endpoint.create({ url: `${receiver.url}/told` })
  const { id: appId } = await service.svix.application.create({ name: 'breaker' })
  const { id: endpointId } = await service.svix.endpoint.create(appId, { url: `${receiver.url}/hook` })
  await publish(appId, FEW)
  const opened = await whenTold('endpoint.breaker.opened')
  assert.equal(opened.data['endpointId'], endpointId)
  assert.equal(await breakerOf(appId, endpointId), 'open')

  // What is published now becomes rows, and nothing is sent.
  const before = hooks().length
  await publish(appId, MANY)
  const failed = await whenTold('endpoint.breaker.probe-failed')
  const untilMs = Date.parse(opened.data['until']!)
  const whileOpen = hooks().filter((one) => one.atMs > opened.atMs && one.atMs < untilMs - 50)
  assert.equal(whileOpen.length, 0, `${whileOpen.length} requests while it was open`)
  assert.equal(hooks().length, before + 1, 'one probe')
  await eventually(
    () => parked(endpointId),
    (count) => count === FEW + MANY,
  )

  status = 200
  const closed = await whenTold('endpoint.breaker.closed')
  const probes = hooks().filter((one) => one.atMs > failed.atMs && one.atMs < closed.atMs)
  assert.ok(probes[0]!.atMs >= Date.parse(failed.data['until']!) - 50)
  await receiver.waitFor(before + 1 + FEW + MANY, { matches: isHook, timeoutMs: 60_000 })
  await eventually(
    () => breakerOf(appId, endpointId),
    (state) => state === 'closed',
  )
  assert.equal(await parked(endpointId), 0)
  const successes = hooks().slice(before + 1)
  assert.equal(new Set(successes.map((one) => one.headers['webhook-id'])).size, FEW + MANY)

  const seconds = perSecond(
    successes.map((one) => one.atMs),
    successes[0]!.atMs,
  )
  t.diagnostic(`arrivals a second after recovery:\n${plot(seconds)}`)
  // It begins with the probes (11) and 10 a second, and doubles every second: never more than twice what it should have been.
  seconds.slice(0, 6).forEach((count, second) => assert.ok(count <= 11 + 10 * 2 ** (second + 1) * 2, `${count} in second ${second}`))
  const inSeconds = (from: number, to: number) => seconds.slice(from, to).reduce((sum, count) => sum + count, 0)
  assert.ok(inSeconds(2, 4) > inSeconds(0, 2) && inSeconds(4, 6) > inSeconds(2, 4), 'it does not rise')
})

test('an endpoint that recovered gets new messages at once, and counts from the beginning', async () => {
  const { id: appId } = await service.svix.application.create({ name: 'again' })
  await service.svix.endpoint.create(appId, { url: `${receiver.url}/again` })
  await publish(appId, 5)
  await receiver.waitFor(5, { matches: (one) => one.path === '/again' })
  const { rows } = await pool.query('SELECT FROM endpoint_state')
  assert.equal(rows.length, 0)
})

test('an endpoint that says that it has too much to do gets less, and all of it in the end', async () => {
  let refused = 0
  const busy = await startReceiver(() => ({ status: ++refused <= 3 ? 429 : 200 }))
  after(() => busy.close())
  const { id: appId } = await service.svix.application.create({ name: 'busy' })
  const { id: endpointId } = await service.svix.endpoint.create(appId, { url: busy.url })
  await publish(appId, 10)
  const headers = { authorization: `Bearer ${service.token}` }
  const shown = () =>
    fetch(`${service.url}/api/v1/app/${appId}/endpoint/${endpointId}/health`, { headers }).then(
      (response) => response.json() as Promise<{ slowed: boolean; rateLimited: number }>,
    )
  assert.equal((await eventually(shown, (health) => health.slowed)).rateLimited, 3)
  const before = busy.received.length
  await publish(appId, 6)
  const arrived = (await busy.waitFor(before + 6)).slice(before).map((one) => one.atMs)
  // One a second.
  assert.ok(mostInASecond(arrived) <= 3, `${mostInASecond(arrived)} in a second`)
})

test('a burst to an endpoint that fails stops as soon as the failures are too many', async (t) => {
  const { id: appId } = await service.svix.application.create({ name: 'burst' })
  const { id: endpointId } = await service.svix.endpoint.create(appId, { url: `${receiver.url}/burst` })
  status = 500
  await publish(appId, 400)
  await eventually(
    () => parked(endpointId),
    (count) => count >= 380,
  )
  const requests = receiver.received.filter((one) => one.path === '/burst').length
  t.diagnostic(`${requests} requests for 400 messages`)
  // 20 are judged; what was on its way then has gone.
  assert.ok(requests >= 20 && requests <= 40, `${requests} requests`)
})
