import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type AddressInfo, type Socket } from 'node:net'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { createNetwork, type Network } from '../../bench/regions/network.ts'

const ROUND_TRIP_MS = 120

let network: Network
const servers: ReturnType<typeof createServer>[] = []

/** Answers everything with its name in front. */
async function startEcho(name: string): Promise<string> {
  const server = createServer((socket) => {
    socket.on('data', (data) => socket.write(`${name}:${data.toString()}`))
    socket.on('error', () => undefined)
  })
  servers.push(server)
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return `127.0.0.1:${(server.address() as AddressInfo).port}`
}

before(() => {
  network = createNetwork((from, to) => (from === to ? 0 : ROUND_TRIP_MS))
})
after(async () => {
  await network.close()
  for (const server of servers) server.close()
})

function open(port: number): Socket {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true })
  socket.on('error', () => undefined)
  return socket
}

const closed = (socket: Socket) => new Promise<void>((resolve) => socket.once('close', () => resolve()))

async function ask(socket: Socket, text: string): Promise<{ answer: string; ms: number }> {
  const since = performance.now()
  socket.write(text)
  const [data] = (await once(socket, 'data')) as [Buffer]
  return { answer: data.toString(), ms: performance.now() - since }
}

test('a request takes the round trip between its regions, the first of a connection one more', async () => {
  const { port } = await network.route('east', 'west', await startEcho('west'))
  const socket = open(port)
  const first = await ask(socket, 'a')
  assert.equal(first.answer, 'west:a')
  assert.ok(first.ms >= 2 * ROUND_TRIP_MS - 2, `${first.ms} ms`)
  const second = await ask(socket, 'b')
  assert.equal(second.answer, 'west:b')
  assert.ok(second.ms >= ROUND_TRIP_MS - 2 && second.ms < first.ms, `${second.ms} ms`)
  socket.destroy()
})

test('what is sent over a line that is cut waits, and arrives in its order when the line is mended', async () => {
  const { port } = await network.route('east', 'west', await startEcho('west'))
  const other = await network.route('east', 'east', await startEcho('east'))
  const [socket, unaffected] = [open(port), open(other.port)]
  await ask(socket, 'a')
  await network.cut('west', 'east')
  socket.write('b')
  await delay(ROUND_TRIP_MS)
  socket.write('c')
  let received = ''
  socket.on('data', (data: Buffer) => (received += data.toString()))
  assert.equal((await ask(unaffected, 'd')).answer, 'east:d')
  await delay(2 * ROUND_TRIP_MS)
  assert.ok(!received.includes('b'))
  await network.mend('east', 'west')
  while (!received.includes('c')) await once(socket, 'data')
  assert.match(received, /^west:b(west:)?c$/)
  socket.destroy()
  unaffected.destroy()
})

test('a route that is pointed elsewhere resets its connections, and new ones arrive there', async () => {
  const route = await network.route('east', 'west', await startEcho('west'))
  const socket = open(route.port)
  await ask(socket, 'a')
  const closing = closed(socket)
  await network.point(route, 'east', await startEcho('instead'))
  await closing
  const again = open(route.port)
  const { answer, ms } = await ask(again, 'b')
  assert.equal(answer, 'instead:b')
  assert.ok(ms < ROUND_TRIP_MS, `${ms} ms`)
  again.destroy()
})

test('where nobody listens a connection is closed', async () => {
  const address = await startEcho('gone')
  servers.pop()!.close()
  const { port } = await network.route('east', 'west', address)
  const socket = open(port)
  await closed(socket)
})
