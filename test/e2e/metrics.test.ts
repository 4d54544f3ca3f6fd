import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { createPool } from '../../storage/pool.ts'
import { openBreaker } from '../../storage/endpoint-state.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver } from '../support/receiver.ts'
import { startTestService } from '../support/service.ts'

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

test('Prometheus reads attempts, what is held back and breakers, and no label names an endpoint', async () => {
  const port = await freePort()
  const receiver = await startReceiver((one) => ({ status: one.path === '/limited' ? 429 : 200 }))
  const service = await startTestService({ env: { TIDINGS_METRICS_PORT: String(port) } })
  const pool = createPool(service.database.url, 2)
  try {
    const { id: appId } = await service.svix.application.create({ name: 'measured' })
    const create = (path: string) => service.svix.endpoint.create(appId, { url: `${receiver.url}${path}` })
    const endpoints = await Promise.all(['/well', '/limited', '/broken'].map(create))
    await openBreaker(pool, endpoints[2]!.id, 60_000, { successRate: 0 })
    const metrics = () => fetch(`http://127.0.0.1:${port}/metrics`).then((response) => response.text())
    await eventually(metrics, (text) => /^tidings_endpoints\{state="open"\} 1$/m.test(text))
    await service.svix.message.create(appId, { eventType: 'invoice.paid', payload: {} })
    const text = await eventually(
      metrics,
      (now) => /outcome="delivered"\} 1$/m.test(now) && /outcome="rate_limited"\} \d/.test(now) && /^tidings_held_total.* 1$/m.test(now),
    )
    assert.match(text, /^tidings_attempt_duration_seconds_count \d+$/m)
    assert.match(text, /^tidings_held_total\{reason="the circuit breaker is open"\} 1$/m)
    assert.match(text, /^tidings_cache_requests_total\{cache="endpoints",result="hit"\} [1-9]/m)
    assert.match(text, /^tidings_cache_bytes\{cache="endpoints"\} [1-9]/m)
    assert.match(text, /^tidings_requests_total\{lane="fast"\} [1-9]\d*$/m)
    assert.match(text, /^tidings_connections_opened_total\{lane="fast",handshake="none"\} [1-9]\d*$/m)
    assert.match(text, /^tidings_connections_open\{lane="fast"\} \d+$/m)
    for (const { id } of endpoints) assert.ok(!text.includes(id))
    assert.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 404)
  } finally {
    await pool.end()
    await service.stop()
    await receiver.close()
  }
})
