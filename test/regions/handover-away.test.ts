import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startService } from '../../workers/service.ts'
import { numbers } from '../support/calls.ts'
import { eventually } from '../support/eventually.ts'
import { spawnScript, type RunningProcess } from '../support/processes.ts'
import { copyConfiguration } from '../support/regions.ts'
import { TEST_SECRET } from '../support/service.ts'
import { temporalCli } from '../support/temporal-cli.ts'
import { at, attempts, recorded, RETRIES, setPair, WEST, type Pair } from './pair.ts'

let pair: Pair

before(async () => {
  pair = await setPair()
})

after(() => pair?.stop())

test('the other region is down: everything else is delivered at once, the rest when it is back', async (t) => {
  const { app, endpoints } = await pair.subscribe({ '/down/a': {}, '/down/b': {}, '/down/c': WEST })
  await pair.west.leave()
  const startedAtMs = Date.now()
  const messageId = await pair.calls.publish(app, 1)
  await Promise.all(['/down/a', '/down/b'].map((path) => pair.receiver.waitFor(1, { matches: at(path) })))
  const tookMs = Date.now() - startedAtMs
  t.diagnostic(`delivered after ${tookMs} ms`)
  assert.ok(tookMs < 5000, `${tookMs} ms`)
  await recorded(pair.east, messageId, 2)
  const pending = await eventually(
    () => pair.pendingOf(messageId),
    (some) => some.some((one) => (one.attempt ?? 1) > 1),
  )
  assert.deepEqual(
    pending.map((one) => one.activityId),
    ['hand-over/west'],
  )
  assert.match(JSON.stringify(pending), /cannot be reached/)
  assert.deepEqual(await pair.statesOf(messageId), ['waiting'])
  await pair.west.comeBack()
  await pair.receiver.waitFor(1, { matches: at('/down/c') })
  assert.deepEqual(await recorded(pair.west, messageId, 1), [endpoints[2]])
  assert.deepEqual(await pair.settled(messageId), ['handed'])
  for (const path of ['/down/a', '/down/b', '/down/c']) assert.equal(pair.arrivals(path), 1)
})

test('a region that was away for many groups gets everything when it is back, not when each of them tries again', async () => {
  const { app } = await pair.subscribe({ '/drained': WEST })
  await pair.west.leave()
  const messageIds: string[] = []
  for (const n of numbers(8)) {
    messageIds.push(await pair.calls.publish(app, n))
    await eventually(
      () => pair.pendingOf(messageIds.at(-1)!),
      (pending) => pending.length === 1,
    )
  }
  await pair.west.comeBack()
  await Promise.all(messageIds.map((id) => pair.receiver.waitFor(1, { matches: at('/drained', id), timeoutMs: 45_000 })))
  await Promise.all(messageIds.map((id) => pair.settled(id)))
  assert.equal(pair.arrivals('/drained'), 8)
})

test('an operator ends the wait for a region: what waited is attempted here', async () => {
  const { app, endpoints } = await pair.subscribe({ '/given-up': WEST })
  await pair.west.leave()
  const messageId = await pair.calls.publish(app, 1)
  const workflowId = `fan-out/${messageId}`
  await eventually(
    () => pair.pendingOf(messageId),
    (pending) => pending.some((one) => (one.attempt ?? 1) > 1),
  )
  const waiting = ['-w', workflowId, '--activity-id', 'hand-over/west']
  await temporalCli(pair.east.service.temporal, 'activity', 'complete', ...waiting, '--result', '"here"')
  await pair.receiver.waitFor(1, { matches: at('/given-up') })
  assert.deepEqual(await recorded(pair.east, messageId, 1), endpoints)
  assert.deepEqual(await pair.statesOf(messageId), ['here'])
  await pair.west.comeBack()
  assert.deepEqual(await attempts(pair.west, messageId), [])
})

test('what has waited for ten minutes is attempted here', async () => {
  const { app, endpoints } = await pair.subscribe({ '/late': WEST })
  await pair.west.leave()
  const messageId = await pair.calls.publish(app, 1)
  await eventually(
    () => pair.pendingOf(messageId),
    (pending) => pending.length === 1,
  )
  await pair.east.pool.query(`UPDATE handed_over SET created_at = now() - interval '601 s' WHERE message_id = $1`, [messageId])
  await pair.receiver.waitFor(1, { matches: at('/late') })
  assert.deepEqual(await recorded(pair.east, messageId, 1), endpoints)
  await pair.west.comeBack()
})

test('a region that does not know the endpoint yet takes its message when it does', async () => {
  const { app, endpoints } = await pair.subscribe({ '/unknown': WEST }, { copied: false })
  const messageId = await pair.calls.publish(app, 1)
  await eventually(
    () => pair.pendingOf(messageId),
    (pending) => /does not know all endpoints/.test(JSON.stringify(pending)),
  )
  assert.equal(pair.arrivals('/unknown'), 0)
  await copyConfiguration(pair.east.pool, pair.west.pool)
  await pair.receiver.waitFor(1, { matches: at('/unknown') })
  assert.deepEqual(await recorded(pair.west, messageId, 1), endpoints)
})

test('a message that is cancelled, and one whose payload is gone, while the region is away', async () => {
  const { app } = await pair.subscribe({ '/gone/cancelled': WEST })
  const other = await pair.subscribe({ '/gone/expunged': WEST })
  await pair.west.leave()
  const [cancelled, expunged] = [await pair.calls.publish(app, 1), await pair.calls.publish(other.app, 2)]
  for (const id of [cancelled, expunged]) {
    await eventually(
      () => pair.pendingOf(id),
      (pending) => pending.length === 1,
    )
  }
  assert.equal((await pair.calls.call('POST', `/app/${app}/msg/cancel`, { msgIds: [cancelled] })).status, 200)
  assert.equal((await pair.calls.call('DELETE', `/app/${other.app}/msg/${expunged}/content`)).status, 204)
  await pair.west.comeBack()
  await eventually(
    () => pair.statesOf(cancelled),
    (states) => states.length === 0,
  )
  // Recorded as any attempt of a message that has lost its payload.
  assert.deepEqual(await pair.settled(expunged), ['here'])
  await eventually(
    () => attempts(pair.east, expunged),
    (ids) => ids.length > 0,
  )
  for (const path of ['/gone/cancelled', '/gone/expunged']) assert.equal(pair.arrivals(path), 0)
})

test('kill -9 of the worker that hands over: nothing is lost, and nothing sent twice', async () => {
  const { app } = await pair.subscribe({ '/killed/a': {}, '/killed/b': WEST })
  await pair.east.leave()
  const { config, temporal, database } = pair.east.service
  const api = await startService(config, { roles: ['api'], lanes: [], partitions: [], log: pair.east.service.log, drainMs: 1000 })
  const startWorker = () =>
    startWorkerOf({
      ...RETRIES,
      ...pair.onDisk.envOf('east'),
      DATABASE_URL: database.url,
      TEMPORAL_ADDRESS: temporal.address,
      TEMPORAL_NAMESPACE: temporal.namespace,
    })
  let worker = await startWorker()
  try {
    const before = pair.front.passed()
    pair.front.hold()
    const messageIds = await pair.calls.publishTogether(app, numbers(20))
    // West has them, east does not know it.
    await eventually(
      () => Promise.resolve(pair.front.passed()),
      (passed) => passed > before,
    )
    worker.signal('SIGKILL')
    await worker.ended
    pair.front.letGo()
    worker = await startWorker()
    await Promise.all(messageIds.map((id) => pair.receiver.waitFor(1, { matches: at('/killed/b', id), timeoutMs: 60_000 })))
    await Promise.all(messageIds.map((id) => pair.settled(id)))
    await Promise.all(messageIds.map((id) => pair.receiver.waitFor(1, { matches: at('/killed/a', id), timeoutMs: 60_000 })))
    for (const id of messageIds) assert.equal(pair.arrivals('/killed/b', id), 1)
    assert.ok(pair.arrivals('/killed/a') <= 40)
  } finally {
    pair.front.letGo()
    worker.signal('SIGTERM')
    await worker.ended
    await api.stop()
    await pair.east.comeBack()
  }
})

async function startWorkerOf(env: Record<string, string>): Promise<RunningProcess> {
  const worker = spawnScript('cli/worker.ts', [], {
    env: {
      TIDINGS_JWT_SECRET: TEST_SECRET,
      TIDINGS_ENCRYPTION_KEY: TEST_SECRET,
      TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8',
      TIDINGS_PARTITIONS: '2',
      TIDINGS_LOG_LEVEL: 'warn',
      ...env,
    },
  })
  await worker.line(/^tidings worker ready/)
  return worker
}
