/**
 * What Tidings is compared with: a bare relay, the least that sends webhooks. Express in, undici out, nothing stored: an event
 * is answered 202 before it is sent, lives in this process's memory alone, is neither signed nor recorded nor tried again, and
 * is gone when the process ends. It is no stand-in for anything: its figures are what the machine can do without promises.
 *
 * It answers the paths that the benchmark's publisher uses, and sends to each host over as many connections as Tidings does.
 * `startRelay` runs it as a process of its own.
 */
import { fork } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import express from 'express'
import { Agent, request } from 'undici'
import { LIMITS } from '../domain/limits.ts'
import type { ProcessGroup } from './process-groups.ts'

export interface Relay {
  readonly url: string
  readonly groups: readonly ProcessGroup[]
  /** Ends it, with what it has not sent. */
  stop(): Promise<void>
}

const SERVE = 'serve'
const API = '/api/v1/app'

/** @throws {Error} it ended before it listened */
export async function startRelay(): Promise<Relay> {
  const child = fork(fileURLToPath(import.meta.url), [SERVE])
  const ended = once(child, 'exit')
  const [port] = (await Promise.race([once(child, 'message'), ended.then(() => [])])) as [number?]
  if (port === undefined) throw new Error('the relay does not start')
  return {
    url: `http://127.0.0.1:${port}`,
    groups: [{ name: 'relay', pids: [child.pid!] }],
    async stop() {
      child.kill('SIGKILL')
      await ended
    },
  }
}

function serve(): void {
  const applications = new Map<string, string[]>()
  const dispatcher = new Agent({ connections: LIMITS.connectionsPerHost })
  const send = async (url: string, id: string, body: string): Promise<void> => {
    const answer = await request(url, {
      method: 'POST',
      dispatcher,
      headers: { 'content-type': 'application/json', 'webhook-id': id },
      body,
    })
    await answer.body.dump()
  }
  const app = express()
  app.use(express.json({ limit: LIMITS.requestBodyMaxBytes }))
  app.post(API, (_request, response) => {
    const id = randomUUID()
    applications.set(id, [])
    response.status(201).json({ id })
  })
  app.post(`${API}/:id/endpoint`, ({ params, body }, response) => {
    applications.get(params.id)?.push((body as { url: string }).url)
    response.status(201).json({ id: randomUUID() })
  })
  app.delete(`${API}/:id`, ({ params }, response) => {
    applications.delete(params.id)
    response.status(204).end()
  })
  app.post(`${API}/:id/msg`, ({ params, body }, response) => {
    const id = randomUUID()
    response.status(202).json({ id })
    const payload = JSON.stringify((body as { payload: unknown }).payload)
    // An event that cannot be sent is lost: that is what a bare relay does.
    for (const url of applications.get(params.id) ?? []) void send(url, id, payload).catch(() => undefined)
  })
  const server = app.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port))
  process.once('disconnect', () => process.exit(0))
}

if (process.argv[2] === SERVE) serve()
