import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createPool } from '../../storage/pool.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver } from '../support/receiver.ts'
import { startTestService } from '../support/service.ts'

/** More than the slow lane has activities. */
const WAITING = 12
const HANGS_MS = 60_000

test('an endpoint that hangs holds its share of the slow lane, and the others of that lane do not wait for it', async (t) => {
  let held = false
  const receiver = await startReceiver(({ path }) => {
    if (path === '/hangs') return { status: 200, afterMs: HANGS_MS }
    const afterMs = held ? 0 : 6000
    held = true
    return { status: 200, afterMs }
  })
  const service = await startTestService({
    env: { TIDINGS_PARTITIONS: '1', TIDINGS_LANE_SLOTS: 'slow=10', TIDINGS_REQUEST_TIMEOUT_MS: '60000' },
  })
  const pool = createPool(service.database.url, 2)
  t.after(async () => {
    await pool.end()
    await service.stop()
    await receiver.close()
  })
  const endpoints = await Promise.all(
    ['/hangs', '/slow'].map(async (path) => {
      const { id: appId } = await service.svix.application.create({ name: path })
      const { id } = await service.svix.endpoint.create(appId, { url: `${receiver.url}${path}` })
      const publish = (n: number) => service.svix.message.create(appId, { eventType: 'invoice.paid', payload: { n } })
      return { id, publish, arrived: (count: number) => receiver.waitFor(count, { matches: (one) => one.path === path }) }
    }),
  )
  const [hangs, slow] = endpoints as [(typeof endpoints)[0], (typeof endpoints)[0]]
  // Their first requests make both of them slow.
  await Promise.all([hangs.publish(0), slow.publish(0)])
  await Promise.all([hangs.arrived(1), slow.arrived(1)])
  await eventually(
    () => pool.query(`SELECT FROM attempt WHERE endpoint_id = $1`, [slow.id]),
    ({ rowCount }) => rowCount === 1,
  )
  await hangs.publish(1)
  // By its activity, which has it alone: the others, that one fan-out may hold several of, come when it is under way.
  await hangs.arrived(2)
  for (let n = 2; n <= WAITING; n++) await hangs.publish(n)
  // They wait as rows, for the endpoint's mailbox.
  await eventually(
    () => pool.query(`SELECT FROM delivery WHERE endpoint_id = $1 AND state = 'parked'`, [hangs.id]),
    ({ rowCount }) => rowCount === WAITING - 1,
  )
  await slow.publish(1)
  await slow.arrived(2)
  const { rowCount: answered } = await pool.query(`SELECT FROM attempt WHERE endpoint_id = $1`, [hangs.id])
  assert.equal(answered, 0)
})
