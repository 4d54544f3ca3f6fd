import { LRUCache } from 'lru-cache'
import type { Envelope } from '../domain/cloud-event.ts'
import type { Priority } from '../domain/priority.ts'
import type { RoutedMessage } from '../domain/routing.ts'
import type { Pool } from './pool.ts'

/** A message as a delivery needs it. */
export interface StoredMessage extends RoutedMessage {
  readonly id: string
  readonly appId: string
  /** Unix milliseconds that it was scheduled for; absent: it was to be delivered at once. */
  readonly deliverAtMs?: number | undefined
  /** Null once expunged or expired. */
  readonly payload: string | null
  readonly envelope?: Envelope | undefined
  /** Absent: medium. */
  readonly priority?: Priority | undefined
  readonly orderingKey?: string | undefined
  /** W3C trace context of its publish; absent: it is not traced. */
  readonly traceparent?: string | undefined
  /** By the publisher: its own deliveries are neither begun nor retried. */
  readonly cancelled?: boolean
  /** The region that it was published in, which has handed it to this one; absent: this one. */
  readonly acceptedIn?: string | undefined
  /** Endpoints in whose queues it has been put when it was accepted. Known in the process that accepted it, for as long as it is in memory. */
  readonly placedWith?: readonly string[]
}

const CACHE_MAX_BYTES = 64 * 1024 * 1024

/** Messages in memory, most of them put there by the intake that has just accepted them. */
export type MessageCache = LRUCache<string, StoredMessage>

export function createMessageCache(): MessageCache {
  return new LRUCache({ maxSize: CACHE_MAX_BYTES, sizeCalculation: (message) => 512 + 2 * (message.payload?.length ?? 0) })
}

/** Drops an application's messages: their rows are being erased. */
export function forgetMessagesOf(cache: MessageCache, appId: string): void {
  for (const [id, message] of cache.entries()) if (message.appId === appId) cache.delete(id)
}

interface MessageRow {
  id: string
  app_id: string
  event_type: string
  channels: string[] | null
  payload: string | null
  created_at: Date
  deliver_at: Date | null
  cancelled: boolean
  envelope: Envelope | null
  priority: Priority
  ordering_key: string | null
  traceparent: string | null
  accepted_in: string | null
}

/** Reads messages in one statement; those that do not exist (yet) are absent from the map. */
export async function readMessages(pool: Pool, cache: MessageCache, ids: readonly string[]): Promise<Map<string, StoredMessage>> {
  const found = new Map<string, StoredMessage>()
  const missing: string[] = []
  for (const id of ids) {
    const known = cache.get(id)
    if (known === undefined) missing.push(id)
    else found.set(id, known)
  }
  if (missing.length === 0) return found
  const { rows } = await pool.query<MessageRow>({
    name: 'messages-by-id',
    text: `SELECT id, app_id, event_type, channels, payload_at(now(), id, expires_at, payload) AS payload, created_at, deliver_at,
        cancelled_at IS NOT NULL AS cancelled, priority, envelope, ordering_key, traceparent, accepted_in
      FROM message WHERE id = ANY($1::text[])`,
    values: [missing],
  })
  for (const row of rows) {
    // Whoever accepted it has put it there meanwhile, and knows more of it.
    const known = cache.get(row.id)
    if (known !== undefined) {
      found.set(row.id, known)
      continue
    }
    const message: StoredMessage = {
      id: row.id,
      appId: row.app_id,
      eventType: row.event_type,
      channels: row.channels,
      payload: row.payload,
      createdAtMs: row.created_at.getTime(),
      deliverAtMs: row.deliver_at?.getTime(),
      cancelled: row.cancelled,
      envelope: row.envelope ?? undefined,
      priority: row.priority,
      orderingKey: row.ordering_key ?? undefined,
      traceparent: row.traceparent ?? undefined,
      acceptedIn: row.accepted_in ?? undefined,
    }
    found.set(row.id, message)
    cache.set(row.id, message)
  }
  return found
}
