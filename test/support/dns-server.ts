import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { isIPv4 } from 'node:net'

const TYPE_A = 1
const HEADER_BYTES = 12
/** Response, recursion available. */
const FLAGS = 0x8580

export interface DnsServer {
  /** For TIDINGS_DNS_SERVERS. */
  readonly address: string
  /** Names that IPv4 addresses were asked for. */
  readonly asked: readonly string[]
  close(): Promise<void>
}

/**
 * A name server over UDP on this machine.
 * @param answer IPv4 addresses of a name; `earlier` counts the questions for it before this one. None: the name has no address
 */
export async function startDnsServer(answer: (name: string, earlier: number) => readonly string[]): Promise<DnsServer> {
  const socket = createSocket('udp4')
  const asked: string[] = []
  socket.on('message', (query, from) => {
    const { name, type, end } = readQuestion(query)
    const addresses = type === TYPE_A ? answer(name, asked.filter((one) => one === name).length) : []
    if (type === TYPE_A) asked.push(name)
    socket.send(writeAnswer(query.subarray(0, end), addresses), from.port, from.address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  return {
    address: `127.0.0.1:${socket.address().port}`,
    asked,
    close: () => new Promise((resolve) => socket.close(resolve)),
  }
}

function readQuestion(query: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = []
  let at = HEADER_BYTES
  for (let length = query[at]!; length > 0; length = query[at]!) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length))
    at += 1 + length
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), end: at + 5 }
}

function writeAnswer(question: Buffer, addresses: readonly string[]): Buffer {
  const header = Buffer.from(question.subarray(0, HEADER_BYTES))
  header.writeUInt16BE(FLAGS, 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(addresses.length, 6)
  header.writeUInt32BE(0, 8)
  // A pointer to the question's name, type A, class IN, not to be kept (TTL 0), four bytes.
  const records = addresses
    .filter(isIPv4)
    .map((address) => Buffer.from([0xc0, HEADER_BYTES, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...address.split('.').map(Number)]))
  return Buffer.concat([header, question.subarray(HEADER_BYTES), ...records])
}
