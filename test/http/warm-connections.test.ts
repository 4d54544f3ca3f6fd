import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { test, type TestContext } from 'node:test'
import { Agent, request } from 'undici'
import { createConnector } from '../../http/connector.ts'
import { createWarmConnections } from '../../http/warm-connections.ts'

const LOOK_EVERY_MS = 5

interface Receiver {
  readonly origin: string
  /** Connections, in the order in which they came, and how many requests each has had. */
  readonly connections: Map<Socket, number>
  /** Listens no more; the connections there are stay. */
  close(): void
}

/** Ends every connection after its answer. */
async function startReceiver(t: TestContext): Promise<Receiver> {
  const connections: Receiver['connections'] = new Map()
  const server = createServer((incoming, response) => {
    connections.set(incoming.socket, (connections.get(incoming.socket) ?? 0) + 1)
    response.setHeader('connection', 'close').end('ok')
  }).listen(0, '127.0.0.1')
  server.on('connection', (socket: Socket) => connections.set(socket, 0))
  await once(server, 'listening')
  const close = (): void => void server.close()
  t.after(() => {
    server.closeAllConnections()
    close()
  })
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, connections, close }
}

function startSender(t: TestContext, max: number) {
  const warm = createWarmConnections(max, LOOK_EVERY_MS)
  const connect = createConnector({ hold: () => undefined })
  let refused = 0
  const counted: typeof connect = (target, callback) =>
    connect(target, (...result) => {
      if (result[0] !== null) refused++
      callback(...result)
    })
  const agent = new Agent({ connect: warm.reserved(counted, ''), pipelining: 1, allowH2: false })
  t.after(async () => {
    warm.stop()
    await agent.destroy()
  })
  const send = async (origin: string): Promise<string> => {
    warm.begin(origin)
    const { body } = await request(origin, { dispatcher: agent })
    return body.text()
  }
  return { warm, send, refused: () => refused }
}

const unused = ({ connections }: Receiver): Socket[] => [...connections].filter(([, requests]) => requests === 0).map(([socket]) => socket)

/** Sends until the condition holds; the test's own time limit is the end otherwise. */
async function sendUntil(send: () => Promise<unknown>, holds: () => boolean): Promise<void> {
  while (!holds()) {
    await send()
    await new Promise(setImmediate)
  }
}

test('a host with many requests has a connection in reserve, and its next connection is that one', { timeout: 20_000 }, async (t) => {
  const receiver = await startReceiver(t)
  const { send } = startSender(t, 10)
  await sendUntil(
    () => send(receiver.origin),
    () => unused(receiver).length > 0,
  )
  const [spare] = unused(receiver)
  // Perhaps it is only about to be kept: then the next request opens one more.
  await sendUntil(
    () => send(receiver.origin),
    () => receiver.connections.get(spare!) === 1,
  )
})

test('a host with few requests has none', async (t) => {
  const [busy, quiet] = [await startReceiver(t), await startReceiver(t)]
  const { send } = startSender(t, 10)
  await send(quiet.origin)
  for (let turn = 0; turn < 3; turn++) {
    const before = busy.connections.size
    await sendUntil(
      () => send(busy.origin),
      () => busy.connections.size > before + 50 && unused(busy).length > 0,
    )
  }
  assert.deepEqual([...quiet.connections.values()], [1])
})

test('no more are in reserve than are allowed', { timeout: 20_000 }, async (t) => {
  const receivers = [await startReceiver(t), await startReceiver(t), await startReceiver(t)]
  const { send } = startSender(t, 1)
  let rounds = 0
  await sendUntil(
    async () => {
      rounds++
      for (const { origin } of receivers) for (let i = 0; i < 20; i++) await send(origin)
      const waiting = receivers.flatMap(unused).filter((socket) => !socket.destroyed)
      assert.ok(waiting.length <= 1, `${waiting.length} in reserve`)
    },
    () => rounds >= 10,
  )
})

test('a connection in reserve that the endpoint ends is not used', { timeout: 20_000 }, async (t) => {
  const receiver = await startReceiver(t)
  const { send } = startSender(t, 10)
  await sendUntil(
    () => send(receiver.origin),
    () => unused(receiver).length > 0,
  )
  for (const socket of unused(receiver)) {
    socket.end('HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n')
    await once(socket, 'close')
  }
  for (let i = 0; i < 20; i++) {
    assert.equal(await send(receiver.origin), 'ok')
  }
})

test('a host that cannot be reached has none, and nothing breaks', { timeout: 20_000 }, async (t) => {
  const [gone, there] = [await startReceiver(t), await startReceiver(t)]
  const { send, refused } = startSender(t, 10)
  await sendUntil(
    () => send(gone.origin),
    () => unused(gone).length > 0,
  )
  gone.close()
  let own = 0
  const tries = async () => {
    await send(gone.origin).catch(() => own++)
  }
  // What takes the one in reserve lets another be opened, and that is refused.
  await sendUntil(tries, () => refused() > own)
  assert.equal(await send(there.origin), 'ok')
})

test('what is in reserve is closed at the end', { timeout: 20_000 }, async (t) => {
  const receiver = await startReceiver(t)
  const { warm, send } = startSender(t, 10)
  await sendUntil(
    () => send(receiver.origin),
    () => unused(receiver).length > 0,
  )
  const sockets = unused(receiver)
  const closed = sockets.map((socket) => once(socket, 'close'))
  warm.stop()
  await Promise.all(closed)
})
