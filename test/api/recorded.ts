import { randomUUID } from 'node:crypto'
import { newId } from '../../domain/ids.ts'
import type { Harness } from './harness.ts'

export interface AttemptInput {
  readonly messageId: string
  readonly endpointId?: string
  readonly status?: number
  readonly code?: number
  readonly at?: number
  readonly nextAt?: Date | null
}

/** An application with two endpoints, and what workers and publishers would have recorded of it. */
export interface Recorded {
  readonly app: string
  /** Its uid is `first`. */
  readonly endpoint: string
  readonly other: string
  attempt(input: AttemptInput): Promise<string>
  delivery(messageId: string, endpointId: string, state: string, nextAt?: Date | null): Promise<void>
  publish(eventType?: string, extra?: { channels?: string[]; eventId?: string }): Promise<string>
}

export async function createRecorded(api: Harness): Promise<Recorded> {
  const app = (await api.svix.application.create({ name: 'History' })).id
  const endpoint = (await api.svix.endpoint.create(app, { url: 'https://example.com/a', uid: 'first' })).id
  const other = (await api.svix.endpoint.create(app, { url: 'https://example.com/b' })).id
  let publishedAtMs = 0
  /** An attempt as a worker records it. */
  async function attempt(input: AttemptInput): Promise<string> {
    const atMs = input.at ?? Date.now()
    const id = newId('atmpt', atMs)
    await api.pool.query(
      `INSERT INTO attempt (message_id, id, endpoint_id, app_id, event_type, url, status, response_code, response_body, duration_ms, trigger, group_id,
         run_id, next_attempt_at, created_at)
       SELECT m.id, $2, $3, m.app_id, m.event_type, 'https://example.com/a', $4, $5, 'answer', 12, 0, $1, $6, $7, to_timestamp($8::float8 / 1000)
       FROM message m WHERE m.id = $1`,
      [input.messageId, id, input.endpointId ?? endpoint, input.status ?? 0, input.code ?? 200, randomUUID(), input.nextAt ?? null, atMs],
    )
    return id
  }

  async function delivery(messageId: string, endpointId: string, state: string, nextAt: Date | null = null): Promise<void> {
    await api.pool.query(
      `INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, next_at, group_id) VALUES ($1, $2, $3, $4, 13, $5, $1)`,
      [messageId, endpointId, app, state, nextAt],
    )
  }

  /** Ids sort by units of 4 ms: messages of a test are published further apart. */
  async function publish(eventType = 'x', extra: { channels?: string[]; eventId?: string } = {}): Promise<string> {
    while (Date.now() < publishedAtMs + 5) await new Promise(setImmediate)
    const { id } = await api.svix.message.create(app, { eventType, payload: { a: 1 }, ...extra })
    publishedAtMs = Date.now()
    return id
  }
  return { app, endpoint, other, attempt, delivery, publish }
}
