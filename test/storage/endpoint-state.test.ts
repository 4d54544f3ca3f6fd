import assert from 'node:assert/strict'
import { after, beforeEach, before, test } from 'node:test'
import pino from 'pino'
import { newId } from '../../domain/ids.ts'
import { createOwnConfiguration } from '../../storage/configuration.ts'
import { settleMailbox } from '../../storage/deliveries.ts'
import {
  beginAnew,
  beginProbing,
  beginRecovery,
  beginSlowness,
  countProbes,
  endSlowness,
  forceClose,
  forgetStates,
  openBreaker,
  readEndpointState,
  reopenBreaker,
  slowDown,
  warnOfDisabling,
} from '../../storage/endpoint-state.ts'
import { createEndpointStates, ENDPOINT_STATE_CHANNEL } from '../../storage/endpoint-states.ts'
import { listen } from '../../storage/listener.ts'
import { inTransaction } from '../../storage/pool.ts'
import { createRecorder } from '../../storage/recorder.ts'
import { eventually } from '../support/eventually.ts'
import { createStorage, newRecord, type Storage } from './rows.ts'

let storage: Storage
let endpointId = ''

before(async () => {
  storage = await createStorage()
  await storage.pool.query(`INSERT INTO application (id, org_id, name) VALUES ('app_1', 'org_1', 'one')`)
})
beforeEach(async () => {
  await storage.pool.query('TRUNCATE endpoint_state, endpoint_failing, delivery, mailbox, endpoint CASCADE')
  endpointId = newId('ep')
  await storage.pool.query(`INSERT INTO endpoint (id, app_id, url) VALUES ($1, 'app_1', 'https://example.com')`, [endpointId])
})
after(() => storage.drop())

const open = (openMs = 60_000) => openBreaker(storage.pool, endpointId, openMs, { successRate: 0.2 })
const state = () => readEndpointState(storage.pool, endpointId)
const park = (nextAtMs: number) =>
  createRecorder({ pool: storage.pool, onWake: () => undefined }).record(
    newRecord({ state: 'parked', attempts: 1, nextAtMs }, { endpointId }),
  )

test('of many processes that find an endpoint failing one opens its breaker', async () => {
  const opened = await Promise.all(Array.from({ length: 8 }, () => open()))
  assert.equal(opened.filter(Boolean).length, 1)
  assert.equal((await state())?.breaker, 'open')
})

test('an endpoint that is gone or disabled has no breaker', async () => {
  await storage.pool.query('UPDATE endpoint SET disabled = true')
  assert.equal(await open(), false)
  assert.equal(await state(), undefined)
})

test('a breaker is probed when its time has come, opens again with a failure and recovers with successes', async () => {
  await open(60_000)
  await beginProbing(storage.pool, endpointId)
  assert.equal((await state())?.breaker, 'open')
  await storage.pool.query('UPDATE endpoint_state SET until = now()')
  await beginProbing(storage.pool, endpointId)
  assert.equal((await state())?.breaker, 'half-open')
  await reopenBreaker(storage.pool, endpointId, 0)
  assert.equal((await state())?.breaker, 'open')
  await beginProbing(storage.pool, endpointId)
  await countProbes(storage.pool, endpointId, 2)
  assert.equal((await state())?.probes, 2)
  await beginRecovery(storage.pool, endpointId, 10)
  const recovering = await state()
  assert.deepEqual([recovering?.breaker, recovering?.ramp?.rate], ['recovering', 10])
})

test('while a breaker is open its mailbox sleeps until it is probed, whatever is due', async () => {
  await park(Date.now() - 1000)
  await open(60_000)
  const untilMs = (await state())!.untilMs!
  assert.equal(await settleMailbox(storage.pool, endpointId), untilMs)
  // What is parked until then does not find that its mailbox wakes too late.
  const { rows } = await storage.pool.query<{ exact: boolean }>('SELECT wake_at = to_timestamp($1::float8 / 1000) AS exact FROM mailbox', [
    untilMs,
  ])
  assert.deepEqual(rows, [{ exact: true }])
})

test('a recovery ends in the transaction that finds nothing waiting, and not before', async () => {
  await park(Date.now() + 60_000)
  await open(0)
  await beginProbing(storage.pool, endpointId)
  await beginRecovery(storage.pool, endpointId, 10)
  await settleMailbox(storage.pool, endpointId)
  assert.equal((await state())?.breaker, 'recovering')
  await storage.pool.query('DELETE FROM delivery')
  assert.equal(await settleMailbox(storage.pool, endpointId), null)
  assert.equal(await state(), undefined)
})

test('a half-open breaker closes where nothing waits after a success, and stays where nothing was probed', async () => {
  await open(0)
  await beginProbing(storage.pool, endpointId)
  await settleMailbox(storage.pool, endpointId)
  assert.equal((await state())?.breaker, 'half-open')
  await countProbes(storage.pool, endpointId, 1)
  await settleMailbox(storage.pool, endpointId)
  assert.equal(await state(), undefined)
})

test('a breaker that opens while its recovery ends is either open or gone, in every order', async () => {
  for (let i = 0; i < 40; i++) {
    await open(0)
    await beginProbing(storage.pool, endpointId)
    await beginRecovery(storage.pool, endpointId, 10)
    const [opened] = await Promise.all([open(0), settleMailbox(storage.pool, endpointId)])
    const now = await state()
    // Closed first: the opening finds a closed breaker. Opened first: the settling finds an open one.
    assert.ok(opened)
    assert.equal(now?.breaker, 'open', `round ${i}`)
    await storage.pool.query('DELETE FROM endpoint_state')
  }
})

test('a breaker that is closed by force makes what waited for it due, and nothing that is due later', async () => {
  await open(60_000)
  const untilMs = (await state())!.untilMs!
  await park(untilMs)
  await park(untilMs + 3_600_000)
  assert.equal(await inTransaction(storage.pool, (client) => forceClose(client, endpointId, 10)), true)
  const { rows } = await storage.pool.query<{ due: boolean }>('SELECT next_at <= now() AS due FROM delivery ORDER BY next_at')
  assert.deepEqual(
    rows.map((row) => row.due),
    [true, false],
  )
  assert.equal((await state())?.breaker, 'recovering')
  assert.equal(await inTransaction(storage.pool, (client) => forceClose(client, endpointId, 10)), false)
})

const anew = () => inTransaction(storage.pool, (client) => beginAnew(client, endpointId, 10))

test('an endpoint with another URL begins anew: nothing is failing, slow or slowed, and what waits for its breaker is due', async () => {
  await storage.pool.query(`INSERT INTO endpoint_failing VALUES ($1, 'app_1', 50, now() - interval '4 days', now())`, [endpointId])
  await slowDown(storage.pool, endpointId, { rate: 3, fromMs: Date.now() }, Date.now() + 60_000)
  await beginSlowness(storage.pool, endpointId, 6000)
  assert.equal(await anew(), false)
  const { breaker, ramp, slowSinceMs, untilMs } = (await state())!
  assert.deepEqual({ breaker, ramp, slowSinceMs, untilMs }, { breaker: 'closed', ramp: null, slowSinceMs: null, untilMs: null })
  assert.equal((await storage.pool.query('SELECT FROM endpoint_failing')).rowCount, 0)
  await open(60_000)
  await park((await state())!.untilMs!)
  assert.equal(await anew(), true)
  assert.deepEqual([(await state())?.breaker, (await state())?.ramp?.rate], ['recovering', 10])
  const { rows } = await storage.pool.query<{ due: boolean }>('SELECT next_at <= now() AS due FROM delivery')
  assert.deepEqual(rows, [{ due: true }])
})

test('that an endpoint begins anew is kept until every process has heard of it', async () => {
  await anew()
  await forgetStates(storage.pool)
  assert.ok((await state())!.countsFromMs > 0)
  await storage.pool.query("UPDATE endpoint_state SET counts_from = now() - interval '61 s'")
  await forgetStates(storage.pool)
  assert.equal(await state(), undefined)
})

test('slowing down lasts until its ramp has ended, slowness until it is over', async () => {
  await slowDown(storage.pool, endpointId, { rate: 3, fromMs: Date.now() }, Date.now() + 60_000)
  await beginSlowness(storage.pool, endpointId, 6000)
  await forgetStates(storage.pool)
  const both = await state()
  assert.deepEqual([both?.breaker, both?.ramp?.rate, typeof both?.slowSinceMs], ['closed', 3, 'number'])
  await endSlowness(storage.pool, endpointId)
  await storage.pool.query("UPDATE endpoint_state SET until = now() - interval '1 s'")
  await forgetStates(storage.pool)
  assert.equal(await state(), undefined)
})

test('slowness that begins while a recovery ends goes on, so that its owner is not told of it again', async () => {
  await open(0)
  await beginProbing(storage.pool, endpointId)
  await beginRecovery(storage.pool, endpointId, 10)
  const slowing = await storage.pool.connect()
  await slowing.query('BEGIN')
  await slowing.query('UPDATE endpoint_state SET slow_since = now() WHERE endpoint_id = $1', [endpointId])
  const settled = settleMailbox(storage.pool, endpointId)
  await eventually(
    async () =>
      (await storage.pool.query(`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)).rowCount,
    (waiting) => waiting === 1,
  )
  await slowing.query('COMMIT')
  slowing.release()
  assert.equal(await settled, null)
  const now = await state()
  assert.deepEqual([now?.breaker, typeof now?.slowSinceMs], ['closed', 'number'])
})

test('of many processes that find an endpoint slow one tells its owner, and a breaker that opens and closes ends no episode', async () => {
  const slowSince = async () => (await state())?.slowSinceMs
  await Promise.all(Array.from({ length: 8 }, () => beginSlowness(storage.pool, endpointId, 6000)))
  const sinceMs = await slowSince()
  await open(0)
  await beginProbing(storage.pool, endpointId)
  await beginRecovery(storage.pool, endpointId, 10)
  await settleMailbox(storage.pool, endpointId)
  await beginSlowness(storage.pool, endpointId, 6000)
  assert.ok(typeof sinceMs === 'number')
  assert.equal(await slowSince(), sinceMs)
})

test('every process knows of a change in under a second, and of all states when it starts', async () => {
  const other = newId('ep')
  await storage.pool.query(`INSERT INTO endpoint (id, app_id, url) VALUES ($1, 'app_1', 'https://example.com')`, [other])
  await openBreaker(storage.pool, other, 60_000, { successRate: 0 })
  const states = await createEndpointStates({ pool: storage.pool, log: pino({ level: 'silent' }) })
  assert.equal(states.get(other)?.breaker, 'open')
  const { promise: heard, resolve } = Promise.withResolvers<void>()
  const listener = listen(storage.url, { [ENDPOINT_STATE_CHANNEL]: (id) => void states.changed(id) }, resolve)
  await heard
  await open()
  await eventually(
    () => Promise.resolve(states.get(endpointId)?.breaker),
    (breaker) => breaker === 'open',
    1000,
  )
  await storage.pool.query('UPDATE endpoint_state SET until = now()')
  await Promise.all([beginProbing(storage.pool, endpointId), beginProbing(storage.pool, other)])
  await eventually(
    () => Promise.resolve([...states.all()].map(({ breaker }) => breaker)),
    (breakers) => breakers.length === 2 && breakers.every((breaker) => breaker === 'half-open'),
    1000,
  )
  await listener.stop()
  await states.stop()
})

test('a warning is given once, disabling ends what was known of the endpoint', async () => {
  await storage.pool.query(`INSERT INTO endpoint_failing VALUES ($1, 'app_1', 50, now() - interval '4 days')`, [endpointId])
  await warnOfDisabling(storage.pool, endpointId, 0, 0)
  const { rows: told } = await storage.pool.query<{ told_at: Date }>('SELECT told_at FROM endpoint_failing')
  await warnOfDisabling(storage.pool, endpointId, 0, 0)
  const { rows: again } = await storage.pool.query<{ told_at: Date }>('SELECT told_at FROM endpoint_failing')
  assert.deepEqual(again, told)
  await open()
  await createOwnConfiguration(storage.pool).disable({ endpointId, appId: 'app_1', failingSinceMs: 0 })
  assert.equal(await state(), undefined)
  const { rows } = await storage.pool.query('SELECT disabled FROM endpoint WHERE NOT EXISTS (SELECT FROM endpoint_failing)')
  assert.deepEqual(rows, [{ disabled: true }])
})
