import { randomUUID } from 'node:crypto'
import { newId } from '../../domain/ids.ts'
import type { NewMessage } from '../../domain/message.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import type { AttemptRow, DeliveryChange, Record } from '../../storage/records.ts'
import { createTestDatabase } from '../support/postgres.ts'

export interface Storage {
  readonly url: string
  readonly pool: Pool
  /** Ends the pool and drops the database. */
  drop(): Promise<void>
}

/** A migrated database of the test file's own, and a pool on it. */
export async function createStorage(connections = 10): Promise<Storage> {
  const database = await createTestDatabase()
  const pool = createPool(database.url, connections)
  return {
    url: database.url,
    pool,
    async drop() {
      await pool.end()
      await database.drop()
    },
  }
}

export function newMessage(changes: Partial<NewMessage> = {}): NewMessage {
  const createdAtMs = Date.now()
  return {
    id: newId('msg', createdAtMs),
    appId: 'app_1',
    eventType: 'invoice.paid',
    eventId: null,
    channels: null,
    payload: '{}',
    createdAtMs,
    expiresAtMs: createdAtMs + 86_400_000,
    ...changes,
  }
}

export const newMessages = (count: number, changes: Partial<NewMessage> = {}) => Array.from({ length: count }, () => newMessage(changes))

/** The record of one attempt, made by a fan-out of the message alone. */
export function newRecord(change: DeliveryChange, changes: Partial<AttemptRow> = {}): Record & { readonly attempt: AttemptRow } {
  const messageId = changes.messageId ?? newId('msg')
  const attempt: AttemptRow = {
    id: newId('atmpt'),
    messageId,
    endpointId: 'ep_1',
    appId: 'app_1',
    eventType: 'invoice.paid',
    url: 'https://example.com/webhook',
    status: change.state === 'delivered' ? 0 : 2,
    responseCode: change.state === 'delivered' ? 200 : 500,
    responseBody: 'ok',
    durationMs: 5,
    trigger: 0,
    groupId: messageId,
    runId: randomUUID(),
    createdAtMs: Date.now(),
    ...changes,
  }
  const { endpointId, appId, trigger, groupId } = attempt
  return { attempt, messageId, endpointId, appId, trigger, groupId, change }
}

export async function count(
  pool: Pool,
  table: 'attempt' | 'delivery' | 'message' | 'message_event_id' | 'outbox',
  where = 'true',
): Promise<number> {
  const { rows } = await pool.query<{ count: number }>(`SELECT count(*) AS count FROM ${table} WHERE ${where}`)
  return rows[0]!.count
}
