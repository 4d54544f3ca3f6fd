import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { createProcessHealth } from '../../workers/process-health.ts'
import { startTestService } from '../support/service.ts'

test('a process is well from the start, ready while its roles run, and not ready while it stops', async () => {
  const health = createProcessHealth()
  const server = createServer((request, response) => {
    if (!health.answer(request, response)) response.writeHead(404).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const ask = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`)
    return [response.status, await response.text()]
  }
  try {
    assert.deepEqual(await ask('/readyz'), [503, '{"status":"starting"}'])
    health.started()
    assert.deepEqual(await ask('/readyz'), [200, '{"status":"ready"}'])
    health.stopping()
    // A start that ends after the stop has begun makes it no more ready.
    health.started()
    assert.deepEqual(await ask('/readyz'), [503, '{"status":"stopping"}'])
    assert.deepEqual(await ask('/health'), [200, '{"status":"ok"}'])
    assert.deepEqual(await ask('/metrics'), [404, ''])
  } finally {
    server.closeAllConnections()
    server.close()
  }
})

test('a worker says on the port of its metrics that it is ready, and never so once it was told to stop', async () => {
  const holder = createServer().listen(0, '127.0.0.1')
  await once(holder, 'listening')
  const { port } = holder.address() as AddressInfo
  await new Promise((resolve) => holder.close(resolve))
  const service = await startTestService({ roles: ['dispatcher', 'delivery'], env: { TIDINGS_METRICS_PORT: String(port) } })
  const ask = (path: string) => fetch(`http://127.0.0.1:${port}${path}`).then(({ status }) => status)
  try {
    for (const path of ['/health', '/readyz', '/metrics']) assert.equal(await ask(path), 200, path)
  } finally {
    const stopped = service.stop()
    // It may have stopped answering at all.
    const seen = await ask('/readyz').catch(() => 503)
    await stopped
    assert.equal(seen, 503)
  }
})
