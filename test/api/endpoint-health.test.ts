import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pino from 'pino'
import { createEndpointHealth } from '../../storage/endpoint-health.ts'
import { createEndpointStates } from '../../storage/endpoint-states.ts'
import { beginSlowness, endSlowness, openBreaker } from '../../storage/endpoint-state.ts'
import { startApi, type Harness } from './harness.ts'

let api: Harness
let appId = ''

before(async () => {
  api = await startApi()
  appId = (await api.svix.application.create({ name: 'Shop' })).id
})
after(() => api.close())

async function createEndpoint(): Promise<string> {
  return (await api.svix.endpoint.create(appId, { url: 'https://example.com/hook' })).id
}

test('the health of an endpoint that nothing was sent to is empty, and its breaker closed', async () => {
  const endpointId = await createEndpoint()
  const { status, json } = await api.call('GET', `/app/${appId}/endpoint/${endpointId}/health`)
  assert.equal(status, 200)
  assert.deepEqual(json, {
    breaker: { state: 'closed', since: null, until: null },
    successRate: null,
    successes: 0,
    failures: 0,
    rateLimited: 0,
    inFlight: 0,
    responseMs: null,
    consecutiveFailures: 0,
    failingSince: null,
    slowSince: null,
    lane: 'fast',
    slowed: false,
  })
})

test('health shows what workers have counted', async () => {
  const endpointId = await createEndpoint()
  const log = pino({ level: 'silent' })
  const states = await createEndpointStates({ pool: api.pool, log })
  const health = createEndpointHealth({
    pool: api.pool,
    states,
    health: { minAttempts: 20, failureRate: 0.5 },
    log,
    onWindows: () => Promise.resolve(),
  })
  const answer = (statusCode: number, durationMs: number) =>
    health.begin({ id: endpointId, appId })({ kind: statusCode === 200 ? 'delivered' : 'rejected', statusCode, body: '', durationMs })
  for (let i = 0; i < 30; i++) answer(200, 20)
  for (let i = 0; i < 10; i++) answer(429, 900)
  await health.stop()
  await states.stop()
  const { json } = await api.call('GET', `/app/${appId}/endpoint/${endpointId}/health`)
  assert.equal(json['successRate'], 0.75)
  assert.deepEqual([json['successes'], json['failures'], json['rateLimited'], json['consecutiveFailures']], [30, 10, 10, 10])
  const { p50, p95, p99 } = json['responseMs'] as { p50: number; p95: number; p99: number }
  assert.ok(p50 > 10 && p50 <= 25 && p95 > 500 && p95 <= p99 && p99 <= 1000)
})

test('an endpoint that answers slowly is shown in the slow lane, and back in the fast one when that is over', async () => {
  const endpointId = await createEndpoint()
  const shown = async () => {
    const { json } = await api.call('GET', `/app/${appId}/endpoint/${endpointId}/health`)
    return [json['lane'], json['slowSince'] !== null]
  }
  await beginSlowness(api.pool, endpointId, 6000)
  assert.deepEqual(await shown(), ['slow', true])
  await endSlowness(api.pool, endpointId)
  assert.deepEqual(await shown(), ['fast', false])
})

test('an open breaker is shown, its owner closes it by force, and the audit log has who', async () => {
  const endpointId = await createEndpoint()
  await openBreaker(api.pool, endpointId, 60_000, { successRate: 0 })
  const shown = await api.call('GET', `/app/${appId}/endpoint/${endpointId}/health`)
  assert.equal((shown.json['breaker'] as { state: string }).state, 'open')
  for (let request = 0; request < 2; request++) {
    const closed = await api.call('POST', `/app/${appId}/endpoint/${endpointId}/breaker/close`)
    assert.equal(closed.status, 200)
    assert.equal((closed.json['breaker'] as { state: string }).state, 'recovering')
  }
  const { rows } = await api.pool.query(
    `SELECT actor FROM audit_log WHERE operation = 'endpoint.breaker.force-closed' AND object_id = $1`,
    [endpointId],
  )
  assert.deepEqual(rows, [{ actor: api.orgId }])
})

test('another URL closes the breaker, and any other change leaves it open', async () => {
  const endpointId = await createEndpoint()
  const path = `/app/${appId}/endpoint/${endpointId}`
  const breaker = async () => ((await api.call('GET', `${path}/health`)).json['breaker'] as { state: string }).state
  const changes = [
    ['PUT', { url: 'https://example.com/other' }],
    ['PATCH', { url: 'https://example.com/third' }],
  ] as const
  for (const [method, change] of changes) {
    await api.pool.query('DELETE FROM endpoint_state')
    await openBreaker(api.pool, endpointId, 60_000, { successRate: 0 })
    assert.equal((await api.call('PATCH', path, { description: `before ${method}` })).status, 200)
    assert.equal(await breaker(), 'open')
    assert.equal((await api.call(method, path, change)).status, 200)
    assert.equal(await breaker(), 'recovering')
  }
})

test('the breaker of an endpoint that is not there is not found', async () => {
  assert.equal((await api.call('POST', `/app/${appId}/endpoint/ep_nothing/breaker/close`)).status, 404)
  assert.equal((await api.call('GET', `/app/${appId}/endpoint/ep_nothing/health`)).status, 404)
})
