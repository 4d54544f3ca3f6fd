import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pino from 'pino'
import { LANES } from '../../domain/names.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { startService, type Service } from '../../workers/service.ts'
import { mostInASecond, perSecond, plot } from '../support/arrivals.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

let first: TestService
let second: Service
let receiver: Receiver
let pool: Pool
/** Paths that answer 500. */
const failing = new Set<string>()

before(async () => {
  receiver = await startReceiver((one) => ({ status: failing.has(one.path) ? 500 : 200 }))
  // Open for a quarter of an hour: nothing here waits for its end.
  first = await startTestService({ env: { TIDINGS_RETRY_TIME_SCALE: '0.01', TIDINGS_BREAKER_OPEN_MS: '86400000' } })
  second = await startSecond()
  pool = createPool(first.database.url, 2)
})

after(async () => {
  await pool.end()
  await second.stop()
  await first.stop()
  await receiver.close()
})

/** Another set of workers on the same database and namespace, with a memory of its own. */
function startSecond(): Promise<Service> {
  const partitions = Array.from({ length: first.config.partitions }, (_, i) => i)
  const log = pino({ level: 'silent' })
  return startService(first.config, { roles: ['dispatcher', 'delivery'], lanes: LANES, partitions, log, drainMs: 1000 })
}

const arrivals = (path: string) => receiver.received.filter((one) => one.path === path)

async function call(method: string, path: string) {
  const response = await fetch(`${first.url}/api/v1${path}`, { method, headers: { authorization: `Bearer ${first.token}` } })
  assert.equal(response.status, 200)
  return (await response.json()) as { breaker: { state: string } }
}

async function publish(appId: string, count: number): Promise<void> {
  await Promise.all(
    Array.from({ length: count }, (_, n) => first.svix.message.create(appId, { eventType: 'invoice.paid', payload: { n } })),
  )
}

async function createOpen(path: string) {
  failing.add(path)
  const { id: appId } = await first.svix.application.create({ name: path })
  const { id: endpointId } = await first.svix.endpoint.create(appId, { url: `${receiver.url}${path}` })
  await publish(appId, 30)
  const open = () => call('GET', `/app/${appId}/endpoint/${endpointId}/health`)
  await eventually(open, (health) => health.breaker.state === 'open')
  const waiting = async (count: number) => {
    const { rows } = await pool.query<{ count: number }>(
      `SELECT count(*) AS count FROM delivery WHERE endpoint_id = $1 AND state = 'parked'`,
      [endpointId],
    )
    return rows[0]!.count === count
  }
  await eventually(
    () => waiting(30),
    (all) => all,
  )
  return { appId, endpointId, path, waiting }
}

test('no process sends to an endpoint whose breaker another has opened, nor one that starts while it is open', async () => {
  const { appId, path, waiting } = await createOpen('/open')
  const before = arrivals(path).length
  await publish(appId, 50)
  await eventually(
    () => waiting(80),
    (all) => all,
  )
  await second.stop()
  second = await startSecond()
  await publish(appId, 50)
  await eventually(
    () => waiting(130),
    (all) => all,
  )
  assert.equal(arrivals(path).length, before)
})

test('its owner closes a breaker by force, and what waited is delivered', async () => {
  const { appId, endpointId, path, waiting } = await createOpen('/forced')
  failing.delete(path)
  const before = arrivals(path).length
  const { breaker } = await call('POST', `/app/${appId}/endpoint/${endpointId}/breaker/close`)
  assert.equal(breaker.state, 'recovering')
  await receiver.waitFor(before + 30, { matches: (one) => one.path === path })
  await eventually(
    () => waiting(0),
    (none) => none,
  )
  await eventually(
    () => call('GET', `/app/${appId}/endpoint/${endpointId}/health`),
    (health) => health.breaker.state === 'closed',
  )
})

test('an endpoint that moves to a place that works gets there what waited for its breaker', async () => {
  const { appId, endpointId, waiting } = await createOpen('/moved/from')
  await first.svix.endpoint.patch(appId, endpointId, { url: `${receiver.url}/moved/to` })
  await receiver.waitFor(30, { matches: (one) => one.path === '/moved/to' })
  await eventually(
    () => waiting(0),
    (none) => none,
  )
  const { breaker } = await call('GET', `/app/${appId}/endpoint/${endpointId}/health`)
  assert.notEqual(breaker.state, 'open')
})

test('the rate limit of an endpoint holds over all workers, and everything arrives', async (t) => {
  const { id: appId } = await first.svix.application.create({ name: 'limited' })
  await first.svix.endpoint.create(appId, { url: `${receiver.url}/limited`, throttleRate: 20 })
  await publish(appId, 120)
  const arrived = await receiver.waitFor(120, { matches: (one) => one.path === '/limited' })
  const atMs = arrived.map((one) => one.atMs)
  t.diagnostic(`arrivals a second, 20 allowed:\n${plot(perSecond(atMs, atMs[0]!))}`)
  // A fifth of a second's tokens may leave at once.
  assert.ok(mostInASecond(atMs) <= 24 + 2, `${mostInASecond(atMs)} in a second`)
  assert.equal(new Set(arrived.map((one) => one.headers['webhook-id'])).size, 120)
})

test('the rate limit of an application holds over all of its endpoints', async () => {
  const { id: appId } = await first.svix.application.create({ name: 'limited together', throttleRate: 20 })
  for (const path of ['/together/a', '/together/b']) await first.svix.endpoint.create(appId, { url: `${receiver.url}${path}` })
  await publish(appId, 40)
  const arrived = await receiver.waitFor(80, { matches: (one) => one.path.startsWith('/together') })
  const most = mostInASecond(arrived.map((one) => one.atMs))
  assert.ok(most <= 24 + 2, `${most} in a second`)
})
