import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createPool, type Pool } from '../../storage/pool.ts'
import { readFleet } from '../../storage/workers.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

let service: TestService
let receiver: Receiver
let pool: Pool

before(async () => {
  receiver = await startReceiver(({ path }) => ({ status: path === '/fails' ? 500 : 200, afterMs: path === '/slowly' ? 800 : 0 }))
  // A report every 1.5 s.
  service = await startTestService({ env: { TIDINGS_AUTOSCALE_TIME_SCALE: '0.1', TIDINGS_LANE_REQUESTS: 'fast=2' } })
  pool = createPool(service.database.url, 2)
})

after(async () => {
  await pool.end()
  await service.stop()
  await receiver.close()
})

async function publish(path: string, count: number): Promise<void> {
  const { svix } = service
  const application = await svix.application.create({ name: path })
  await svix.endpoint.create(application.id, { url: `${receiver.url}${path}` })
  const publishing = Array.from({ length: count }, (_, n) =>
    svix.message.create(application.id, { eventType: 'invoice.paid', payload: { n } }),
  )
  await Promise.all(publishing)
}

/** What all reports that are seen until then add up to. */
async function reported(is: (total: { attempts: number; endpointFailures: number; firstRequests: number }) => boolean) {
  const total = { attempts: 0, endpointFailures: 0, firstRequests: 0, utilisation: 0, ownFailures: 0 }
  let seenAt = 0
  await eventually(async () => {
    const { rows } = await pool.query<{ at: number }>('SELECT extract(epoch FROM seen_at)::float8 AS at FROM worker')
    const fleet = await readFleet(pool)
    if (rows[0] !== undefined && rows[0].at !== seenAt) {
      seenAt = rows[0].at
      total.attempts += fleet.attempts
      total.endpointFailures += fleet.endpointFailures
      total.firstRequests += fleet.firstRequests
      total.ownFailures += fleet.ownFailures
      total.utilisation = Math.max(total.utilisation, fleet.utilisation ?? 0)
    }
    return total
  }, is)
  return total
}

test('a process reports itself from its start', async () => {
  const { rows } = await pool.query<{ roles: string[]; lanes: string[]; pid: number; slots: number }>('SELECT * FROM worker')
  assert.equal(rows.length, 1)
  assert.deepEqual(
    [rows[0]!.roles, rows[0]!.lanes, rows[0]!.pid],
    [['api', 'dispatcher', 'delivery'], ['fast', 'slow', 'retry'], process.pid],
  )
})

test('it reports its requests, first ones by how long they waited, and failures of endpoints', async () => {
  await publish('/works', 20)
  const well = await reported(({ attempts }) => attempts >= 20)
  assert.deepEqual([well.attempts, well.firstRequests, well.endpointFailures, well.ownFailures], [20, 20, 0, 0])
  await publish('/fails', 5)
  const failing = await reported(({ endpointFailures }) => endpointFailures >= 5)
  assert.ok(failing.firstRequests >= 5 && failing.firstRequests <= failing.attempts)
  assert.equal(failing.ownFailures, 0)
})

test('requests that fill a lane are utilisation, however little the process itself has to do', async () => {
  const { svix } = service
  const application = await svix.application.create({ name: 'slow' })
  for (let i = 0; i < 12; i++) await svix.endpoint.create(application.id, { url: `${receiver.url}/slowly` })
  const watching = eventually(
    () => pool.query<{ used: number; slots: number }>('SELECT slots_used AS used, slots FROM worker'),
    ({ rows }) => rows[0]?.slots === 2 && rows[0].used >= 1,
  )
  await svix.message.create(application.id, { eventType: 'invoice.paid', payload: {} })
  assert.ok((await readFleet(pool)).utilisation !== null)
  await watching
})

test('who stops is no worker any more', async () => {
  await service.service.stop()
  assert.equal((await readFleet(pool)).workers, 0)
})
