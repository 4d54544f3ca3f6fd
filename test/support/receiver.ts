import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'

/** One request that reached a receiver. */
export interface Received {
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** The body as it came. */
  readonly bytes: Buffer
  readonly atMs: number
}

/** What to answer: a status, with headers; or to never answer. */
export type Answer =
  { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string; readonly afterMs?: number } | 'hang'

export interface Receiver {
  readonly url: string
  readonly received: readonly Received[]
  /** Resolves when `count` requests (that `matches` picks) have arrived; rejects after `timeoutMs`. */
  waitFor(count: number, options?: { matches?: (one: Received) => boolean; timeoutMs?: number }): Promise<Received[]>
  close(): Promise<void>
}

const DEFAULT_TIMEOUT_MS = 30_000

/** A real HTTP server on a free port of this machine. `answer` decides each request; by default 200. */
export async function startReceiver(answer: (one: Received, earlier: number) => Answer = () => ({ status: 200 })): Promise<Receiver> {
  const received: Received[] = []
  const perId = new Map<string, number>()
  let watchers: (() => void)[] = []
  const server = createServer((request, response) => {
    void readBody(request).then((bytes) => {
      const headers = Object.fromEntries(Object.entries(request.headers).map(([name, value]) => [name, String(value)]))
      const one: Received = { path: request.url ?? '', headers, body: bytes.toString('utf8'), bytes, atMs: Date.now() }
      const key = `${one.path} ${headers['webhook-id'] ?? ''}`
      const earlier = perId.get(key) ?? 0
      perId.set(key, earlier + 1)
      received.push(one)
      for (const watcher of watchers) watcher()
      const decision = answer(one, earlier)
      if (decision === 'hang') return
      const reply = () => response.writeHead(decision.status, decision.headers).end(decision.body ?? 'ok')
      if (decision.afterMs === undefined) reply()
      else setTimeout(reply, decision.afterMs)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  // A file whose `before` fails ends, instead of waiting for requests.
  server.unref()
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    received,
    waitFor(count, { matches = () => true, timeoutMs = DEFAULT_TIMEOUT_MS } = {}) {
      return new Promise((resolve, reject) => {
        const check = () => {
          const found = received.filter(matches)
          if (found.length < count) return
          finish()
          resolve(found)
        }
        const timer = setTimeout(() => {
          finish()
          reject(new Error(`${received.filter(matches).length} of ${count} requests arrived within ${timeoutMs} ms`))
        }, timeoutMs)
        const finish = () => {
          clearTimeout(timer)
          watchers = watchers.filter((watcher) => watcher !== check)
        }
        watchers.push(check)
        check()
      })
    },
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}
