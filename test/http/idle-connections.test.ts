import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { LIMITS } from '../../domain/limits.ts'
import { createAddressGuard } from '../../http/address-guard.ts'
import { createHttpClient } from '../../http/client.ts'

test('a lane keeps a hundred connections over all hosts, and closes those used longest ago', async (t) => {
  let opened = 0
  let open = 0
  const held: (() => void)[] = []
  const server = createServer((request, response) => {
    if (request.url === '/held') held.push(() => response.end())
    else response.end()
  }).listen(0, '127.0.0.1')
  server.on('connection', (socket) => {
    opened++
    open++
    socket.on('close', () => open--)
  })
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  // Every name is another host to the client, and all are this server.
  const guard = createAddressGuard({ allowSubnets: ['127.0.0.1'], requireHttps: false, resolve: () => Promise.resolve(['127.0.0.1']) })
  const client = createHttpClient({ guard, requestTimeoutMs: 10_000 })
  t.after(async () => {
    await client.close()
    server.close()
  })
  const send = (host: number, path = '/') =>
    client.post('fast', { url: `http://host-${host}.example:${port}${path}`, headers: {}, body: '{}', timeoutMs: 10_000 })

  const busy = send(0, '/held')
  const hosts = LIMITS.requestsInFlightPerLane + 50
  for (let host = 1; host <= hosts; host++) assert.equal((await send(host)).kind, 'delivered')
  assert.equal(opened, hosts + 1)
  while (open > LIMITS.requestsInFlightPerLane) await new Promise(setImmediate)
  assert.equal(open, LIMITS.requestsInFlightPerLane)

  assert.equal((await send(hosts)).kind, 'delivered')
  assert.equal(opened, hosts + 1, 'the host used last has kept its connection')
  assert.equal((await send(1)).kind, 'delivered')
  assert.equal(opened, hosts + 2, 'the host used first has lost its own')
  held.splice(0).forEach((answer) => answer())
  assert.equal((await busy).kind, 'delivered', 'a busy connection is not closed, however long ago it was opened')
})
