import { newId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { NewMessage } from '../domain/message.ts'
import { shardAmong } from '../domain/shards.ts'
import type { TaskStep } from '../domain/task.ts'
import { advanceTask, insertTask, type BackgroundTask, type NewBackgroundTask } from './background-tasks.ts'
import { acceptMessages } from './accept.ts'
import { notifyOutbox } from './outbox.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'

/** What one event is sent to, and the event without its payload. */
export interface BroadcastInput {
  readonly orgId: string
  /** Ids; null: all applications that the organisation has when their turn comes. */
  readonly applicationIds: readonly string[] | null
  /** Only applications whose metadata has all of these. */
  readonly metadata: Readonly<Record<string, string>>
  readonly eventType: string
  readonly eventId: string | null
  readonly channels: readonly string[] | null
  readonly retentionMs: number
  /** Where message data is in several databases: this one, and those that took messages when the broadcast was begun. */
  readonly placed?: { readonly shard: number; readonly among: readonly number[] } | undefined
}

type NewBroadcast = Omit<NewBackgroundTask, 'task' | 'appId' | 'input' | 'data'> & { readonly input: BroadcastInput }

/** Registers a broadcast with its payload, which no other place has. */
export function insertBroadcast(pool: Pool, broadcast: NewBroadcast, payload: string): Promise<BackgroundTask> {
  return inTransaction(pool, async (client) => {
    await client.query('INSERT INTO broadcast (task_id, payload) VALUES ($1, $2)', [broadcast.id, payload])
    return insertTask(client, { ...broadcast, task: 'message.broadcast', appId: null, data: { messages: 0, conflicts: 0 } })
  })
}

/**
 * Publishes the event to the next applications, in the order of their ids, and writes down how far it is in the same
 * transaction: each application gets it once. One that has a message with the `eventId` already is counted and left alone.
 */
export async function broadcastSome(pool: Pool, taskId: string, input: BroadcastInput): Promise<TaskStep> {
  return inTransaction(pool, async (client) => {
    const { rows } = await client.query<{ payload: string; after: string }>(
      'SELECT payload, after_app_id AS after FROM broadcast WHERE task_id = $1 FOR UPDATE',
      [taskId],
    )
    const broadcast = rows[0]
    if (broadcast === undefined) return { done: true }
    const fitting = Math.floor(LIMITS.broadcastBatchMaxChars / Math.max(1, broadcast.payload.length))
    const limit = Math.min(LIMITS.broadcastBatch, Math.max(1, fitting))
    const appIds = await nextApplications(client, input, broadcast.after, limit)
    const here = ({ placed }: BroadcastInput, appId: string) => placed === undefined || shardAmong(placed.among, appId) === placed.shard
    const messages = appIds.filter((appId) => here(input, appId)).map((appId) => toMessage(input, appId, broadcast.payload))
    const { accepted } = await acceptMessages(client, messages, false, 0)
    if (accepted.size > 0) await notifyOutbox(client)
    const done = appIds.length < limit
    if (done) await client.query('DELETE FROM broadcast WHERE task_id = $1', [taskId])
    else await client.query('UPDATE broadcast SET after_app_id = $2 WHERE task_id = $1', [taskId, appIds.at(-1)])
    const counts = { messages: accepted.size, conflicts: messages.length - accepted.size }
    await advanceTask(client, taskId, counts, done ? 'finished' : 'running')
    return { done }
  })
}

async function nextApplications(db: Queryable, input: BroadcastInput, after: string, limit: number): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>({
    name: 'broadcast-applications',
    text: `SELECT id FROM application WHERE org_id = $1 AND id > $2 AND deleted_at IS NULL
        AND ($3::text[] IS NULL OR id = ANY($3)) AND metadata @> $4::jsonb
      ORDER BY id LIMIT $5`,
    values: [input.orgId, after, input.applicationIds, JSON.stringify(input.metadata), limit],
  })
  return rows.map((row) => row.id)
}

function toMessage(input: BroadcastInput, appId: string, payload: string): NewMessage {
  const nowMs = Date.now()
  const { eventType, eventId, channels } = input
  return {
    id: newId('msg', nowMs),
    appId,
    eventType,
    eventId,
    channels,
    payload,
    createdAtMs: nowMs,
    expiresAtMs: nowMs + input.retentionMs,
  }
}
