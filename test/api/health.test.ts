import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startApi, type Harness } from './harness.ts'

let api: Harness
before(async () => {
  api = await startApi()
})
after(() => api.close())

test('health answers without a token', async () => {
  await api.svix.health.get()
  const health = await fetch(`${api.url}/api/v1/health`)
  assert.deepEqual([health.status, await health.json()], [200, { status: 'ok' }])
  assert.equal((await fetch(`${api.url}/api/v1/health`, { method: 'HEAD' })).status, 200)
  const ping = await fetch(`${api.url}/api/v1/health/ping`)
  assert.deepEqual([ping.status, await ping.text()], [204, ''])
  assert.equal(health.headers.get('x-powered-by'), null)
})

test('readiness is 503 and names the part without which nothing is accepted', async () => {
  assert.deepEqual(await readiness(), [200, { status: 'ready', parts: { postgres: 'ok' } }])
  const postgres = api.readiness['postgres']!
  api.readiness['postgres'] = () => Promise.reject(new Error('broken'))
  assert.deepEqual(await readiness(), [503, { status: 'not ready', parts: { postgres: 'broken' } }])
  api.readiness['postgres'] = postgres
})

test('without Temporal what is published is accepted: ready, and degraded', async () => {
  api.readiness['temporal'] = () => Promise.resolve('not reachable')
  assert.deepEqual(await readiness(), [200, { status: 'degraded', parts: { postgres: 'ok', temporal: 'not reachable' } }])
  delete api.readiness['temporal']
})

async function readiness() {
  const response = await fetch(`${api.url}/readyz`)
  return [response.status, await response.json()]
}
