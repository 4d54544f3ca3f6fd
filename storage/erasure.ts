import { LIMITS } from '../domain/limits.ts'
import type { TaskStep } from '../domain/task.ts'
import { advanceTask } from './background-tasks.ts'
import { ERASED_CHANNEL } from './config-changes.ts'
import { createOwnConfiguration, type Configuration, type ConfigurationPlace } from './configuration.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'
import { ROLLUP_TABLES } from './rollup-partitions.ts'

export interface ErasureInput {
  readonly applicationId: string
  /** Absent: none. */
  readonly residency?: string
}

/** Of one batch. */
export interface ErasureOptions {
  /** Where the application is erased last; this database's own where absent. */
  readonly configuration?: Configuration | undefined
  /** False: the task goes on when nothing is left here. */
  readonly finishes?: boolean
}

/** Rows of one batch that were deleted, by what they held. */
type Counts = Readonly<Record<'messages' | 'attempts' | 'deliveries' | 'endpoints', number>>

/**
 * Deletes one batch of an application's data. The application is deleted already, so nothing new is published to it, but
 * what was on its way in other processes may still write: a last pass follows when their caches cannot know it any more.
 * @returns done after the last pass; with a time to wait once nothing is left
 */
export async function eraseSome(
  pool: Pool,
  taskId: string,
  input: ErasureInput,
  { configuration = createOwnConfiguration(pool), finishes = true }: ErasureOptions = {},
): Promise<TaskStep> {
  return inTransaction(pool, async (client) => {
    const waitMs = await lastPassInMs(client, taskId)
    const appId = input.applicationId
    await client.query('SELECT pg_notify($1, $2)', [ERASED_CHANNEL, appId])
    // A row of a group is left to the fan-out that the group is started as: others' messages may share it.
    await client.query('DELETE FROM outbox WHERE app_id = $1 AND group_id IS NULL', [appId])
    await client.query('DELETE FROM scheduled_message WHERE app_id = $1', [appId])
    const messages = await eraseMessages(client, appId)
    await advanceTask(client, taskId, messages)
    if (messages.messages > 0) return { done: false }
    const rest = await eraseRest(client, taskId, appId, configuration.ofResidency(input.residency ?? null))
    await advanceTask(client, taskId, rest, rest.attempts > 0 || !finishes ? 'running' : 'finished')
    if (rest.attempts > 0) return { done: false }
    return waitMs > 0 ? { done: false, waitMs } : { done: true }
  })
}

/** Locks the task. @returns milliseconds until the pass that is the last one can be made */
async function lastPassInMs(client: Queryable, taskId: string): Promise<number> {
  const { rows } = await client.query<{ left: number }>(
    `SELECT CASE WHEN status = 'running' THEN $2::float8 ELSE $2 - extract(epoch FROM now() - updated_at)::float8 * 1000 END AS left
     FROM background_task WHERE id = $1 FOR UPDATE`,
    [taskId, LIMITS.erasureLastPassAfterMs],
  )
  return Math.ceil(rows[0]?.left ?? 0)
}

/** Some messages with all that was recorded of them. Their ids stay, for fan-outs that would wait for their rows. */
async function eraseMessages(client: Queryable, appId: string): Promise<Counts> {
  const { rows } = await client.query<Counts>(
    `WITH gone AS (
       DELETE FROM message WHERE id IN (SELECT id FROM message WHERE app_id = $1 ORDER BY id LIMIT $2) RETURNING id, expires_at
     ), kept AS (
       INSERT INTO erased_message (id) SELECT id FROM gone ON CONFLICT DO NOTHING
     ), payloads AS (
       DELETE FROM message_payload p USING gone WHERE p.message_id = gone.id AND p.expires_at = gone.expires_at
     ), attempts AS (
       DELETE FROM attempt a USING gone WHERE a.message_id = gone.id AND a.id >= earliest_attempt(gone.id) RETURNING a.id
     ), deliveries AS (
       DELETE FROM delivery d USING gone WHERE d.message_id = gone.id RETURNING d.message_id
     ), handed_over AS (
       DELETE FROM handed_over h USING gone WHERE h.message_id = gone.id
     ), handed_in AS (
       DELETE FROM handed_in h USING gone WHERE h.message_id = gone.id
     )
     SELECT (SELECT count(*) FROM gone) AS messages, (SELECT count(*) FROM attempts) AS attempts,
       (SELECT count(*) FROM deliveries) AS deliveries, 0 AS endpoints`,
    [appId, LIMITS.erasureBatch],
  )
  return rows[0]!
}

// The application's endpoints, and those that this task has deleted: attempts are found by them to the last.
const OF_ENDPOINTS = `endpoint_id IN (SELECT id FROM endpoint WHERE app_id = $1
  UNION SELECT jsonb_array_elements_text(input -> 'endpointIds') FROM background_task WHERE id = $2)`

/** What is left when the messages are gone: configuration, and what was recorded while they went. */
async function eraseRest(client: Queryable, taskId: string, appId: string, configuration: ConfigurationPlace): Promise<Counts> {
  const removed = async (text: string, ...values: unknown[]) => (await client.query(text, values)).rowCount ?? 0
  const attempts = await removed(
    `DELETE FROM attempt WHERE (message_id, id, status) IN (SELECT message_id, id, status FROM attempt WHERE ${OF_ENDPOINTS} LIMIT $3)`,
    appId,
    taskId,
    LIMITS.erasureBatch,
  )
  if (attempts > 0) return { messages: 0, attempts, deliveries: 0, endpoints: 0 }
  const deliveries = await removed('DELETE FROM delivery WHERE app_id = $1', appId)
  await removed('DELETE FROM message_event_id WHERE app_id = $1', appId)
  await removed(`DELETE FROM mailbox WHERE ${OF_ENDPOINTS}`, appId, taskId)
  await removed(`DELETE FROM batch_in_flight WHERE ${OF_ENDPOINTS}`, appId, taskId)
  await eraseRollups(client, taskId, appId)
  await removed('DELETE FROM replay_page WHERE task_id IN (SELECT id FROM background_task WHERE app_id = $1)', appId)
  await removed('DELETE FROM idempotency_key k USING erased_message e WHERE k.message_id = e.id')
  // By fan-outs that had the message in memory.
  await removed('DELETE FROM handed_over h USING erased_message e WHERE h.message_id = e.id')
  const endpoints = configuration.shared ? await eraseShared(configuration, appId) : await eraseEndpoints(client, taskId, appId)
  if (!configuration.shared) await removed('DELETE FROM application WHERE id = $1', appId)
  return { messages: 0, attempts: 0, deliveries, endpoints }
}

/**
 * Attempts are gone by now: what rolls them up after this finds none, and what does so now is waited for. Of one that was recorded
 * after an earlier pass the last pass removes the rest.
 */
async function eraseRollups(client: Queryable, taskId: string, appId: string): Promise<void> {
  await client.query('SELECT FROM rollup_progress FOR UPDATE')
  for (const { table } of Object.values(ROLLUP_TABLES)) {
    await client.query(
      `DELETE FROM ${table} WHERE of_id IN (SELECT $1 UNION SELECT id FROM endpoint WHERE app_id = $1
        UNION SELECT jsonb_array_elements_text(input -> 'endpointIds') FROM background_task WHERE id = $2)`,
      [appId, taskId],
    )
  }
}

/** Endpoints with their secrets; the task remembers their ids. */
async function eraseEndpoints(client: Queryable, taskId: string, appId: string): Promise<number> {
  const { rows } = await client.query<{ id: string }>('DELETE FROM endpoint WHERE app_id = $1 RETURNING id', [appId])
  const ids = JSON.stringify(rows.map((row) => row.id))
  await client.query(
    `UPDATE background_task SET input = jsonb_set(input, '{endpointIds}', coalesce(input -> 'endpointIds', '[]') || $2) WHERE id = $1`,
    [taskId, ids],
  )
  return rows.length
}

/** The same where regions share configuration: whoever comes last finds nothing. Its task was given the ids of its endpoints. */
async function eraseShared(configuration: ConfigurationPlace, appId: string): Promise<number> {
  const { result } = await configuration.change(async ({ client }) => {
    const { rowCount } = await client.query('DELETE FROM endpoint WHERE app_id = $1', [appId])
    await client.query('DELETE FROM application WHERE id = $1', [appId])
    return rowCount ?? 0
  })
  return result
}

/** @returns which of the named messages were erased */
export async function readErased(db: Queryable, messageIds: readonly string[]): Promise<Set<string>> {
  const { rows } = await db.query<{ id: string }>({
    name: 'messages-erased',
    text: 'SELECT id FROM erased_message WHERE id = ANY($1::text[])',
    values: [messageIds],
  })
  return new Set(rows.map((row) => row.id))
}
