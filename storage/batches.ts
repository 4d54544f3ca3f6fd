import { LIMITS } from '../domain/limits.ts'
import { STATUS_FAIL, STATUS_SUCCESS, type AttemptTrigger } from '../domain/outcome.ts'
import { IS_PARKED, QUEUED_COLUMNS, turnRows, type QueuedDelivery, type QueuedRow, type Turn } from './mailbox-queue.ts'
import type { MessageCache } from './messages.ts'
import type { Queryable } from './pool.ts'
import { ATTEMPT_COLUMNS, nextAtMs } from './recorder.ts'
import type { Record } from './records.ts'

/** A delivery with its place in the queue. */
export interface Placed extends QueuedDelivery {
  readonly seq: number
}

/**
 * What the next batches are made of: the oldest batch that has failed and is due, else the front of what is in none.
 * @param headOfLine whether what waits holds up what is behind it: then it is read before it is due
 * @param afterSeq skips what has a lower number. Only what has left the queue should, else it is not in order: until the next
 *   vacuum a read from the front goes over the index entries of all that has.
 */
export async function readForBatch(db: Queryable, turn: Turn, headOfLine: boolean, afterSeq = 0): Promise<Placed[] | undefined> {
  const due = headOfLine ? '' : 'AND (d.attempts = 0 OR d.next_at <= now())'
  const waiting = `d.endpoint_id = m.endpoint_id AND d.state = 'parked' AND d.seq IS NOT NULL`
  const { rows } = await db.query<QueuedRow & { seq: number }>({
    name: headOfLine ? 'queue-read-batch-in-order' : 'queue-read-batch',
    text: `SELECT m.epoch, one.message_id, one.attempts, one.trigger, one.group_id, one.next_at, one.retried, one.batch_id,
        one.seq
      FROM mailbox m LEFT JOIN LATERAL (
        (SELECT ${QUEUED_COLUMNS} FROM delivery d WHERE ${waiting} AND d.batch_id =
          (SELECT d.batch_id FROM delivery d WHERE ${waiting} AND d.batch_id IS NOT NULL ${due} ORDER BY d.seq LIMIT 1))
        UNION ALL
        (SELECT ${QUEUED_COLUMNS} FROM delivery d WHERE ${waiting} AND d.batch_id IS NULL AND d.seq > $3 ${due} ORDER BY d.seq LIMIT $2)
      ) one ON true
      WHERE m.endpoint_id = $1 ORDER BY one.seq`,
    values: [turn.endpointId, LIMITS.batchRowsPerRead, afterSeq],
  })
  const seqs = new Map(rows.map((row) => [row.message_id, row.seq]))
  return turnRows(rows, turn)?.map((one) => ({ ...one, seq: seqs.get(one.messageId)! }))
}

/** Bytes of the payloads of messages; 0 where there is none any more. Only what is not in memory is asked for. */
export async function readSizes(db: Queryable, cache: MessageCache, ids: readonly string[]): Promise<(id: string) => number> {
  const sizes = new Map<string, number>()
  const missing: string[] = []
  for (const id of ids) {
    const message = cache.get(id)
    if (message === undefined) missing.push(id)
    else sizes.set(id, Buffer.byteLength(message.payload ?? ''))
  }
  if (missing.length > 0) {
    const { rows } = await db.query<{ id: string; bytes: number | null }>({
      name: 'message-sizes',
      text: 'SELECT id, octet_length(payload_at(now(), id, expires_at, payload)) AS bytes FROM message WHERE id = ANY($1::text[])',
      values: [missing],
    })
    for (const { id, bytes } of rows) sizes.set(id, bytes ?? 0)
  }
  return (id) => sizes.get(id) ?? 0
}

/** Fixes which deliveries one request carries. @returns those that still waited; undefined where somebody else has the turn */
export async function fixBatch(
  db: Queryable,
  turn: Turn,
  batchId: string,
  messageIds: readonly string[],
): Promise<Set<string> | undefined> {
  const { rows } = await db.query<{ held: boolean; fixed: string[] }>({
    name: 'batch-fix',
    text: `WITH held AS MATERIALIZED (SELECT FROM mailbox WHERE endpoint_id = $1 AND epoch = $2),
      waiting AS MATERIALIZED (
        SELECT message_id, seq FROM delivery
        WHERE endpoint_id = $1 AND message_id = ANY($4::text[]) AND ${IS_PARKED} AND EXISTS (SELECT FROM held)
      ), fixed AS (
        INSERT INTO batch_in_flight (endpoint_id, batch_id, seqs) SELECT $1, $3, array_agg(seq) FROM waiting HAVING count(*) > 0
        ON CONFLICT (endpoint_id) DO UPDATE SET batch_id = excluded.batch_id, seqs = excluded.seqs
      )
      SELECT EXISTS (SELECT FROM held) AS held, ARRAY(SELECT message_id FROM waiting) AS fixed`,
    values: [turn.endpointId, turn.epoch, batchId, messageIds],
  })
  const { held, fixed } = rows[0]!
  return held ? new Set(fixed) : undefined
}

/**
 * Makes the batch whose request nobody has recorded one that has failed: what still waits of it is sent again together.
 * @returns undefined where somebody else has the turn
 */
export async function adoptBatch(db: Queryable, turn: Turn): Promise<true | undefined> {
  const { rows } = await db.query<{ held: boolean }>({
    name: 'batch-adopt',
    text: `WITH held AS MATERIALIZED (SELECT FROM mailbox WHERE endpoint_id = $1 AND epoch = $2),
      left_over AS (DELETE FROM batch_in_flight WHERE endpoint_id = $1 AND EXISTS (SELECT FROM held) RETURNING batch_id, seqs),
      adopted AS (
        UPDATE delivery SET batch_id = left_over.batch_id FROM left_over
        WHERE endpoint_id = $1 AND state = 'parked' AND seq IS NOT NULL AND seq = ANY (left_over.seqs) AND delivery.batch_id IS NULL
      )
      SELECT EXISTS (SELECT FROM held) AS held`,
    values: [turn.endpointId, turn.epoch],
  })
  return rows[0]!.held ? true : undefined
}

/** An event's part in a batch that was sent. */
export interface BatchEvent {
  readonly messageId: string
  readonly eventType: string
  readonly groupId: string
  readonly trigger: AttemptTrigger
  readonly attemptId: string
  /** Whether the endpoint took it, though perhaps not all of the batch. */
  readonly taken: boolean
}

export interface BatchRecords {
  readonly batchId: string
  /** What came of the request, for all that is not taken: their changes differ in nothing. */
  readonly whole: Record
  readonly events: readonly BatchEvent[]
  /** Whether what is tried again stays in its batch. */
  readonly sameBatch: boolean
}

// One that was cancelled or skipped meanwhile stays so, unless it was delivered.
const RECORD = `
WITH held AS MATERIALIZED (SELECT FROM mailbox WHERE endpoint_id = $1 AND epoch = $2),
attempts AS (
  INSERT INTO attempt (${ATTEMPT_COLUMNS})
  SELECT message_id, id, $1, $9, event_type, $10, CASE WHEN taken THEN ${STATUS_SUCCESS} ELSE ${STATUS_FAIL} END, $11::int, $12, $13::int,
    trigger, group_id, $14::uuid, CASE WHEN NOT taken THEN to_timestamp($15::float8 / 1000) END, to_timestamp($16::float8 / 1000)
  FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::smallint[], $8::boolean[])
    AS t (message_id, id, event_type, group_id, trigger, taken)
  WHERE EXISTS (SELECT FROM held)
), changed AS (
  UPDATE delivery SET state = $17, attempts = $18, next_at = to_timestamp($15::float8 / 1000), updated_at = now(), batch_id = $19
  WHERE endpoint_id = $1 AND message_id = ANY($20::text[]) AND ${IS_PARKED} AND EXISTS (SELECT FROM held)
), gone AS (
  DELETE FROM delivery WHERE endpoint_id = $1 AND message_id = ANY($21::text[]) AND EXISTS (SELECT FROM held)
), landed AS (
  DELETE FROM batch_in_flight WHERE endpoint_id = $1 AND EXISTS (SELECT FROM held)
)
SELECT EXISTS (SELECT FROM held) AS held`

/** @returns undefined where somebody else has taken the turn, and nothing was written */
export async function recordBatch(
  db: Queryable,
  turn: Turn,
  { batchId, whole, events, sameBatch }: BatchRecords,
): Promise<true | undefined> {
  const { attempt, change } = whole
  const attempted = attempt === undefined ? [] : events
  const ids = (some: readonly BatchEvent[]) => some.map((one) => one.messageId)
  const { rows } = await db.query<{ held: boolean }>({
    name: 'batch-record',
    text: RECORD,
    values: [
      turn.endpointId,
      turn.epoch,
      ids(attempted),
      attempted.map((one) => one.attemptId),
      attempted.map((one) => one.eventType),
      attempted.map((one) => one.groupId),
      attempted.map((one) => one.trigger),
      attempted.map((one) => one.taken),
      whole.appId,
      attempt?.url,
      attempt?.responseCode,
      attempt?.responseBody.slice(0, LIMITS.batchResponseMaxChars),
      attempt?.durationMs,
      attempt?.runId,
      nextAtMs(whole),
      attempt?.createdAtMs,
      change.state,
      'attempts' in change ? change.attempts : 0,
      sameBatch ? batchId : null,
      ids(events.filter((one) => !one.taken)),
      ids(events.filter((one) => one.taken)),
    ],
  })
  return rows[0]!.held ? true : undefined
}
