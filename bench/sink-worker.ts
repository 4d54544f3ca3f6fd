import { createServer, type AddressInfo, type Socket } from 'node:net'
import { parentPort } from 'node:worker_threads'
import { nowMs } from './clock.ts'
import { openLedger, recordArrival, TOTAL, type Ledger, type LedgerBuffers } from './ledger.ts'
import { messagesOf } from './payload.ts'
import type { Behaviour } from './scenarios.ts'

/** To the sink: listen on so many ports; count this run's arrivals; endpoints that are down answer 200 from now on; forget the run. */
export type SinkCommand =
  | { readonly kind: 'listen'; readonly ports: number }
  | {
      readonly kind: 'begin'
      readonly run: string
      readonly behaviours: readonly Behaviour[]
      readonly messages: number
      readonly kept: number
      readonly failures: number
      readonly answerAfterMs: number
      readonly buffers: LedgerBuffers
    }
  | { readonly kind: 'recover' }
  | { readonly kind: 'end' }

/** From the sink: the command has been done. */
export interface SinkAnswer {
  readonly ports: readonly number[]
}

interface Current {
  readonly run: string
  readonly behaviours: readonly Behaviour[]
  readonly failures: number
  readonly answerAfterMs: number
  readonly ledger: Ledger
  down: boolean
}

const HEAD_END = '\r\n\r\n'
const OK = Buffer.from('HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 11\r\n\r\n{"ok":true}')
const FAILED = Buffer.from('HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n')
const LENGTH_REQUIRED = Buffer.from('HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\nconnection: close\r\n\r\n')
const REQUEST_MAX_BYTES = 4_194_304

const ports: number[] = []
const hanging = new Set<Socket>()
let current: Current | undefined

parentPort?.on('message', (command: SinkCommand) => {
  void obey(command).then(() => parentPort?.postMessage({ ports } satisfies SinkAnswer))
})

async function obey(command: SinkCommand): Promise<void> {
  switch (command.kind) {
    case 'listen':
      while (ports.length < command.ports) ports.push(await listen())
      return
    case 'begin': {
      const { run, behaviours, failures, answerAfterMs, messages, kept, buffers } = command
      current = { run, behaviours, failures, answerAfterMs, ledger: openLedger(behaviours.length, messages, kept, buffers), down: true }
      return
    }
    case 'recover':
      if (current !== undefined) current.down = false
      return
    case 'end':
      current = undefined
      for (const socket of hanging) socket.destroy()
      hanging.clear()
  }
}

function listen(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer({ noDelay: true }, serve)
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => resolve((server.address() as AddressInfo).port))
  })
}

/**
 * As much of HTTP/1.1 as a webhook needs: Node's own server would take more of the machine's time than the requests that are
 * measured.
 */
function serve(socket: Socket): void {
  let pending: Buffer = Buffer.alloc(0)
  socket.on('error', () => socket.destroy())
  socket.on('close', () => {
    if (hanging.delete(socket) && current !== undefined) Atomics.sub(current.ledger.totals, TOTAL.hanging, 1)
  })
  socket.on('data', (chunk) => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk])
    for (;;) {
      const headEnd = pending.indexOf(HEAD_END)
      if (headEnd < 0) break
      const head = pending.toString('latin1', 0, headEnd)
      const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1]
      if (length === undefined || Number(length) > REQUEST_MAX_BYTES) return void socket.end(LENGTH_REQUIRED)
      const end = headEnd + HEAD_END.length + Number(length)
      if (pending.length < end) break
      answer(socket, head, pending.subarray(headEnd, end))
      pending = pending.subarray(end)
    }
    if (pending.length > REQUEST_MAX_BYTES * 2) socket.destroy()
  })
}

/** What does not belong to the run (a retry of an earlier one) is answered 200, so that it comes to its end. */
function answer(socket: Socket, head: string, body: Buffer): void {
  const atMs = nowMs()
  const [, run, number] = /^POST \/r\/([^/ ]+)\/e\/(\d+) /.exec(head) ?? []
  const behaviour = run === current?.run ? current?.behaviours[Number(number)] : undefined
  const messages = current === undefined || behaviour === undefined ? [] : messagesOf(current.run, body)
  if (current === undefined || messages.length === 0) {
    socket.write(OK)
    return
  }
  const { ledger, failures, answerAfterMs, down } = current
  Atomics.add(ledger.totals, TOTAL.requests, 1)
  if (behaviour === 'down' && down) {
    Atomics.add(ledger.totals, TOTAL.refused, 1)
    socket.write(FAILED)
    return
  }
  const wanted = behaviour === 'fail-first' ? failures : 0
  let fails = behaviour === 'fail'
  for (const message of messages) {
    const earlier = recordArrival(ledger, Number(number), message, atMs)
    if (earlier < wanted) fails = true
    else if (earlier === wanted && behaviour !== 'fail' && behaviour !== 'hang') Atomics.add(ledger.totals, TOTAL.complete, 1)
  }
  if (behaviour === 'hang') hang(socket, ledger)
  else if (answerAfterMs > 0) setTimeout(() => socket.write(fails ? FAILED : OK), answerAfterMs)
  else socket.write(fails ? FAILED : OK)
}

function hang(socket: Socket, ledger: Ledger): void {
  if (hanging.has(socket)) return
  hanging.add(socket)
  const now = Atomics.add(ledger.totals, TOTAL.hanging, 1) + 1
  if (now > Atomics.load(ledger.totals, TOTAL.hangingPeak)) Atomics.store(ledger.totals, TOTAL.hangingPeak, now)
}
