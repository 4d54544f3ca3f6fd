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

test('readiness is 503 and names the part that fails', async () => {
  assert.equal((await fetch(`${api.url}/readyz`)).status, 200)
  api.readiness['temporal'] = () => Promise.resolve('not reachable')
  const response = await fetch(`${api.url}/readyz`)
  assert.deepEqual(
    [response.status, await response.json()],
    [503, { status: 'not ready', parts: { postgres: 'ok', temporal: 'not reachable' } }],
  )
  api.readiness['temporal'] = () => Promise.reject(new Error('broken'))
  assert.equal((await fetch(`${api.url}/readyz`)).status, 503)
  delete api.readiness['temporal']
})
