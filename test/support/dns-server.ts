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
  /** Questions are not answered from now on, or answered again. */
  silence(on: boolean): void
  close(): Promise<void>
}

/**
 * A name server over UDP on this machine.
 * @param answer IPv4 addresses of a name; `earlier` counts the questions for it before this one. None: the name has no address
 * @param ttlS time to live of the answers; 0: they are not to be kept
 */
export async function startDnsServer(answer: (name: string, earlier: number) => readonly string[], ttlS = 0): Promise<DnsServer> {
  const socket = createSocket('udp4')
  const asked: string[] = []
  let silent = false
  socket.on('message', (query, from) => {
    const { name, type, end } = readQuestion(query)
    const addresses = type === TYPE_A ? answer(name, asked.filter((one) => one === name).length) : []
    if (type === TYPE_A) asked.push(name)
    if (!silent) socket.send(writeAnswer(query.subarray(0, end), addresses, ttlS), from.port, from.address)
  })
  socket.bind(0, '127.0.0.1')
  await once(socket, 'listening')
  return {
    address: `127.0.0.1:${socket.address().port}`,
    asked,
    silence: (on) => void (silent = on),
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

function writeAnswer(question: Buffer, addresses: readonly string[], ttlS: number): Buffer {
  const header = Buffer.from(question.subarray(0, HEADER_BYTES))
  header.writeUInt16BE(FLAGS, 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(addresses.length, 6)
  header.writeUInt32BE(0, 8)
  // A pointer to the question's name, type A, class IN, the time to live, four bytes.
  const records = addresses.filter(isIPv4).map((address) => {
    const record = Buffer.from([0xc0, HEADER_BYTES, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, ...address.split('.').map(Number)])
    record.writeUInt32BE(ttlS, 6)
    return record
  })
  return Buffer.concat([header, question.subarray(HEADER_BYTES), ...records])
}
