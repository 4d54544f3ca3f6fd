import { Pool } from 'undici'
import { RestError } from '../cli/rest.ts'
import type { Priority } from '../domain/priority.ts'
import type { EndpointSettings, Scenario } from './scenarios.ts'

/** The service's REST API over connections that are kept. */
export interface Publisher {
  /** An application with one endpoint for each URL, every one of which gets every message. */
  createApplication(run: string, urls: readonly string[], settings?: EndpointSettings): Promise<Application>
  deleteApplication(appId: string): Promise<void>
  /** Resolves when the service has accepted the message. */
  publish(appId: string, eventId: string, payload: string, priority?: Priority): Promise<void>
  /** @returns the answer's text. @throws {RestError} */
  send(method: 'GET' | 'POST' | 'PATCH' | 'DELETE', path: string, body: string | null): Promise<string>
  close(): Promise<void>
}

export interface Application {
  readonly id: string
  /** In the order of its URLs. */
  readonly endpointIds: readonly string[]
}

const CONNECTIONS = 256
/** Endpoints that are created at a time. */
const CREATING = 8
const REQUEST_TIMEOUT_MS = 30_000

export function createPublisher(url: string, token: string): Publisher {
  const pool = new Pool(url, { connections: CONNECTIONS, headersTimeout: REQUEST_TIMEOUT_MS, bodyTimeout: REQUEST_TIMEOUT_MS })
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const send: Publisher['send'] = async (method, path, body) => {
    const response = await pool.request({ method, path: `/api/v1${path}`, headers, body })
    const text = await response.body.text()
    if (response.statusCode < 300) return text
    throw new RestError(response.statusCode, `${method} ${path} was answered ${response.statusCode}: ${text.slice(0, 300)}`)
  }
  return {
    async createApplication(run, urls, settings = {}) {
      const { id } = JSON.parse(await send('POST', '/app/', JSON.stringify({ name: run, uid: run }))) as { id: string }
      const endpointIds: string[] = []
      await publishAll({ messages: urls.length, publishers: CREATING }, 0, async (i) => {
        const endpoint = { url: urls[i], version: 1, description: String(i), ...settings }
        endpointIds[i] = (JSON.parse(await send('POST', `/app/${id}/endpoint/`, JSON.stringify(endpoint))) as { id: string }).id
      })
      return { id, endpointIds }
    },
    deleteApplication: async (appId) => void (await send('DELETE', `/app/${appId}/`, null)),
    async publish(appId, eventId, payload, priority = 'medium') {
      await send(
        'POST',
        `/app/${appId}/msg/`,
        `{"eventType":"bench.event","eventId":"${eventId}","priority":"${priority}","payload":${payload}}`,
      )
    },
    send,
    close: () => pool.destroy(),
  }
}

/** Publishes a scenario's messages: `one` for each number, by so many at a time or at their times. */
export async function publishAll(
  scenario: Pick<Scenario, 'messages' | 'publishers'> & { readonly ratePerS?: number | undefined },
  startMs: number,
  one: (message: number, dueMs: number | undefined) => Promise<void>,
) {
  const { messages, publishers, ratePerS } = scenario
  if (ratePerS !== undefined) return openLoop(messages, 1000 / ratePerS, startMs, one)
  let next = 0
  const publisher = async () => {
    while (next < messages) await one(next++, undefined)
  }
  await Promise.all(Array.from({ length: publishers }, publisher))
}

async function openLoop(messages: number, gapMs: number, startMs: number, one: (message: number, dueMs: number) => Promise<void>) {
  const startedAtMs = performance.now()
  const pending: Promise<void>[] = []
  for (let message = 0; message < messages; message++) {
    const waitMs = startedAtMs + message * gapMs - performance.now()
    if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs))
    pending.push(one(message, startMs + message * gapMs))
  }
  await Promise.all(pending)
}
