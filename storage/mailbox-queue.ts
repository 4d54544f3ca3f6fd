import { hasQueue, type Ordering, type Queued, type QueueWay } from '../domain/ordering.ts'
import type { AttemptTrigger } from '../domain/outcome.ts'
import { closeBreaker } from './endpoint-state.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'
import { WAKE_BOXES } from './queue-wakes.ts'
import { ATTEMPT_COLUMNS, attemptColumns, nextAtMs } from './recorder.ts'
import type { MailboxWake, Record } from './records.ts'

/** A delivery that is to be put into its endpoint's queue. */
export interface NewQueued {
  readonly messageId: string
  readonly endpointId: string
  readonly appId: string
  readonly orderingKey: string | null
}

/** A delivery in a queue, as a drain needs it. */
export interface QueuedDelivery extends Queued {
  readonly trigger: AttemptTrigger
  readonly groupId: string
  /** False: a single attempt. */
  readonly retried: boolean
  readonly batchId: string | null
}

/** The right to send from a queue, until somebody else has taken it. */
export interface Turn {
  readonly endpointId: string
  readonly epoch: number
}

// The row is added only where the delivery has neither begun nor ended: by anybody, or, of what is sent again, by this group.
// Attempts are looked for by message only: the planner, which knows an empty table, would read all of the endpoint's.
// Rows are looked for as attempts are, in the same snapshot: the conflict alone would add one again whose end commits meanwhile.
const ENQUEUE = `
WITH wanted AS (
  SELECT t.*, e.ordering <> 'fifo' AS eager FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY
    AS t (message_id, endpoint_id, app_id, ordering_key, place) JOIN endpoint e ON e.id = t.endpoint_id
), begun AS MATERIALIZED (
  SELECT message_id, endpoint_id FROM attempt
  WHERE message_id = ANY($1::text[]) AND id >= earliest_attempt((SELECT min(id) FROM unnest($1::text[]) AS id))
    AND endpoint_id || '' = ANY($2::text[]) AND ($6 = 0 OR group_id = $5)
), added AS (
  INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, trigger, next_at, group_id, seq, ordering_key)
  SELECT message_id, endpoint_id, app_id, 'parked', 0, $6, now(), $5, nextval('delivery_seq'), ordering_key FROM (
    SELECT * FROM wanted w
    WHERE NOT EXISTS (SELECT FROM begun WHERE begun.message_id = w.message_id AND begun.endpoint_id = w.endpoint_id)
      AND (SELECT true FROM delivery d WHERE d.message_id = w.message_id AND d.endpoint_id = w.endpoint_id
        AND ($6 <> 1 OR d.state IN ('retrying', 'parked') OR d.group_id = $5) LIMIT 1) IS NULL
    ORDER BY place) missing
  ON CONFLICT (message_id, endpoint_id) DO UPDATE SET state = 'parked', attempts = 0, trigger = excluded.trigger, next_at = excluded.next_at,
    group_id = excluded.group_id, seq = excluded.seq, batch_id = NULL, retried = true, updated_at = now()
    WHERE excluded.trigger = 1 AND delivery.state NOT IN ('retrying', 'parked') AND delivery.group_id <> excluded.group_id
  RETURNING message_id, endpoint_id
), places AS (
  SELECT wanted.* FROM wanted JOIN added USING (message_id, endpoint_id)
), ${WAKE_BOXES}
SELECT endpoint_id FROM told WHERE wakes`

/**
 * Puts deliveries into their endpoints' queues, as far as they are not there, in the order given.
 * @returns the mailboxes that have to be woken
 */
export async function enqueueDeliveries(
  db: Queryable,
  deliveries: readonly NewQueued[],
  by: { readonly groupId: string; readonly trigger: AttemptTrigger },
): Promise<MailboxWake[]> {
  const { rows } = await db.query<{ endpoint_id: string }>({
    name: 'queue-add',
    text: ENQUEUE,
    values: [
      deliveries.map((one) => one.messageId),
      deliveries.map((one) => one.endpointId),
      deliveries.map((one) => one.appId),
      deliveries.map((one) => one.orderingKey),
      by.groupId,
      by.trigger,
    ],
  })
  return rows.map((row) => ({ endpointId: row.endpoint_id, wakeAtMs: Date.now() }))
}

/** @returns the application of a live endpoint that has a queue, with the way that its queue is sent in; undefined where it has none */
export async function queueOwner(db: Queryable, endpointId: string): Promise<(QueueWay & { readonly appId: string }) | undefined> {
  const { rows } = await db.query<QueueWay & { appId: string }>({
    name: 'queue-owner',
    text: `SELECT app_id AS "appId", ordering, batching FROM endpoint WHERE id = $1 AND deleted_at IS NULL AND NOT disabled`,
    values: [endpointId],
  })
  return rows[0] !== undefined && hasQueue(rows[0]) ? rows[0] : undefined
}

/** Has the mailbox look now at what waits, whatever its timer knows. @returns whether something may wait */
export async function makeQueueDue(db: Queryable, endpointId: string): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'queue-due',
    text: 'UPDATE mailbox SET wake_at = now() WHERE endpoint_id = $1 AND NOT idle',
    values: [endpointId],
  })
  return rowCount === 1
}

/**
 * Takes the turn from whoever has it, and numbers what was parked while the endpoint had no queue.
 * @returns `clean`: whoever had it before has said that it sends nothing more
 */
export async function takeTurn(db: Queryable, endpointId: string): Promise<{ turn: Turn; clean: boolean }> {
  const { rows } = await db.query<{ epoch: number; clean: boolean }>({
    name: 'queue-take',
    text: `INSERT INTO mailbox (endpoint_id, idle, wake_at, epoch) VALUES ($1, false, now(), 1)
      ON CONFLICT (endpoint_id) DO UPDATE SET idle = false, wake_at = now(), epoch = mailbox.epoch + 1
      RETURNING epoch, released = epoch - 1 AS clean`,
    values: [endpointId],
  })
  await numberParked(db, endpointId)
  const { epoch, clean } = rows[0]!
  return { turn: { endpointId, epoch }, clean }
}

async function numberParked(db: Queryable, endpointId: string): Promise<void> {
  await db.query({
    name: 'queue-number',
    text: `UPDATE delivery SET seq = numbered.seq FROM (
        SELECT message_id, nextval('delivery_seq') AS seq FROM (
          SELECT message_id FROM delivery WHERE endpoint_id = $1 AND state = 'parked' AND seq IS NULL ORDER BY message_id
        ) one
      ) numbered
      WHERE delivery.message_id = numbered.message_id AND delivery.endpoint_id = $1 AND delivery.seq IS NULL`,
    values: [endpointId],
  })
}

/** Says that the turn's holder sends nothing more. */
export async function releaseTurn(db: Queryable, turn: Turn): Promise<void> {
  await db.query({
    name: 'queue-release',
    text: 'UPDATE mailbox SET released = epoch WHERE endpoint_id = $1 AND epoch = $2',
    values: [turn.endpointId, turn.epoch],
  })
}

/** Says that the turn's holder is at work: no sweep takes its mailbox for a lost one. */
export async function touchTurn(db: Queryable, turn: Turn): Promise<void> {
  await db.query({
    name: 'queue-touch',
    text: 'UPDATE mailbox SET wake_at = now() WHERE endpoint_id = $1 AND epoch = $2',
    values: [turn.endpointId, turn.epoch],
  })
}

export const QUEUED_COLUMNS = 'd.message_id, d.attempts, d.trigger, d.group_id, d.next_at, d.retried, d.ordering_key, d.batch_id, d.seq'

export interface QueuedRow {
  epoch: number
  message_id: string | null
  attempts: number
  trigger: AttemptTrigger
  group_id: string
  next_at: Date | null
  retried: boolean
  ordering_key?: string | null
  batch_id: string | null
}

function toQueued(row: QueuedRow): QueuedDelivery {
  return {
    messageId: row.message_id!,
    orderingKey: row.ordering_key ?? null,
    attempts: row.attempts,
    nextAtMs: row.next_at?.getTime() ?? 0,
    trigger: row.trigger,
    groupId: row.group_id,
    retried: row.retried,
    batchId: row.batch_id,
  }
}

export interface QueuePage {
  readonly limit: number
  /** Keys whose first delivery waits: nothing of theirs is read. Set for `fifo-by-key`, where what waits without a key is not read either. */
  readonly blockedKeys?: readonly string[]
}

/**
 * Reads a queue from its front, always: what commits late has a low number.
 * @returns undefined where somebody else has taken the turn
 */
export async function readQueue(db: Queryable, turn: Turn, page: QueuePage): Promise<QueuedDelivery[] | undefined> {
  const { rows } = await db.query<QueuedRow>({
    name: page.blockedKeys === undefined ? 'queue-read' : 'queue-read-by-key',
    text: `SELECT m.epoch, one.* FROM mailbox m LEFT JOIN LATERAL (
        SELECT ${QUEUED_COLUMNS} FROM delivery d WHERE d.endpoint_id = m.endpoint_id AND d.state = 'parked' AND d.seq IS NOT NULL
          ${page.blockedKeys === undefined ? '' : 'AND (d.ordering_key IS NULL AND (d.attempts = 0 OR d.next_at <= now()) OR d.ordering_key <> ALL($3::text[]))'}
        ORDER BY d.seq LIMIT $2
      ) one ON true
      WHERE m.endpoint_id = $1 ORDER BY one.seq`,
    values: [turn.endpointId, page.limit, ...(page.blockedKeys === undefined ? [] : [page.blockedKeys])],
  })
  return turnRows(rows, turn)
}

export function turnRows(rows: readonly QueuedRow[], turn: Turn): QueuedDelivery[] | undefined {
  if (rows[0]?.epoch !== turn.epoch) return undefined
  return rows.filter((row) => row.message_id !== null).map(toQueued)
}

/** As `state = 'parked'`, but hides from the planner that the indexes of what is parked have the row: by these it would read the whole queue. */
export const IS_PARKED = `delivery.state NOT IN ('retrying', 'dead', 'skipped', 'cancelled')`

// Attempts and changes are written only while the turn is held. One that was cancelled or skipped meanwhile stays so, unless it
// was delivered.
const RECORD = `
WITH held AS MATERIALIZED (SELECT FROM mailbox WHERE endpoint_id = $1 AND epoch = $2),
attempts AS (
  INSERT INTO attempt (${ATTEMPT_COLUMNS})
  SELECT a, b, c, d, e, f, g, h, i, j, k, l, m, to_timestamp(n / 1000), to_timestamp(o / 1000)
  FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::smallint[], $10::int[], $11::text[], $12::int[],
    $13::smallint[], $14::text[], $15::uuid[], $16::float8[], $17::float8[]) AS t (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o)
  WHERE EXISTS (SELECT FROM held)
  ON CONFLICT DO NOTHING
), changed AS (
  UPDATE delivery SET state = t.state, attempts = t.attempts, next_at = to_timestamp(t.next_ms / 1000), updated_at = now(),
    batch_id = NULL
  FROM unnest($18::text[], $19::text[], $20::int[], $21::float8[]) AS t (message_id, state, attempts, next_ms)
  WHERE delivery.message_id = t.message_id AND delivery.message_id = ANY($18::text[]) AND delivery.endpoint_id = $1 AND ${IS_PARKED}
    AND EXISTS (SELECT FROM held)
), gone AS (
  DELETE FROM delivery WHERE endpoint_id = $1 AND message_id = ANY($22::text[]) AND EXISTS (SELECT FROM held)
)
SELECT EXISTS (SELECT FROM held) AS held,
  ARRAY(SELECT message_id FROM delivery WHERE endpoint_id = $1 AND message_id = ANY($23::text[]) AND ${IS_PARKED}) AS waiting`

export interface QueueRecords {
  readonly records: readonly Record[]
  /** Messages that come next: those that still wait are in the answer. */
  readonly next: readonly string[]
}

/** @returns which of `next` still wait; undefined where somebody else has taken the turn, and nothing was written */
export async function recordQueued(db: Queryable, turn: Turn, { records, next }: QueueRecords): Promise<ReadonlySet<string> | undefined> {
  const changed = records.filter((record) => 'attempts' in record.change)
  const ended = records.filter((record) => record.change.state === 'delivered' || record.change.state === 'untracked')
  const { rows } = await db.query<{ held: boolean; waiting: string[] }>({
    name: 'queue-record',
    text: RECORD,
    values: [
      turn.endpointId,
      turn.epoch,
      ...attemptColumns(records),
      changed.map((record) => record.messageId),
      changed.map((record) => record.change.state),
      changed.map((record) => ('attempts' in record.change ? record.change.attempts : 0)),
      changed.map(nextAtMs),
      ended.map((record) => record.messageId),
      next,
    ],
  })
  const { held, waiting } = rows[0]!
  return held ? new Set(waiting) : undefined
}

/** When the front of a queue is due, by the way it is sent: its first, or the first of each key. */
function frontDue(ordering: Ordering): string {
  const queue = `FROM delivery WHERE endpoint_id = $1 AND state = 'parked'`
  switch (ordering) {
    case 'none':
      return `SELECT min(next_at) AS next_at ${queue}`
    case 'fifo':
      return `SELECT next_at ${queue} ORDER BY seq LIMIT 1`
    case 'fifo-by-key':
      return `SELECT min(next_at) AS next_at FROM (SELECT DISTINCT ON (coalesce(ordering_key, message_id)) next_at ${queue}
        ORDER BY coalesce(ordering_key, message_id), seq) heads`
  }
}

/**
 * Before a turn ends: in one transaction finds what still waits and marks the mailbox idle where nothing does, so that whoever adds
 * next knows that it has to be woken. With the last of them a recovery ends.
 * @returns Unix milliseconds when the front is due; null where nothing waits
 */
export async function settleQueue(pool: Pool, turn: Turn, ordering: Ordering): Promise<number | null> {
  const { endpointId } = turn
  await numberParked(pool, endpointId)
  return inTransaction(pool, async (client) => {
    const { rows: held } = await client.query<{ epoch: number }>('SELECT epoch FROM mailbox WHERE endpoint_id = $1 FOR UPDATE', [
      endpointId,
    ])
    // Who has the turn now settles.
    if (held[0]?.epoch !== turn.epoch) return null
    const { rows } = await client.query<{ next_at: Date }>(
      `SELECT greatest(next_at, now(), (SELECT until FROM endpoint_state WHERE endpoint_id = $1 AND breaker = 'open')) AS next_at
       FROM (${frontDue(ordering)}) front WHERE next_at IS NOT NULL`,
      [endpointId],
    )
    const nextAt = rows[0]?.next_at ?? null
    if (nextAt === null) await closeBreaker(client, endpointId)
    await client.query('UPDATE mailbox SET idle = $2::timestamptz IS NULL, wake_at = $2 WHERE endpoint_id = $1', [endpointId, nextAt])
    return nextAt?.getTime() ?? null
  })
}

/** How a queue stands. */
export interface QueueState {
  readonly depth: number
  /** The delivery that goes next; null where none waits. */
  readonly head: { readonly messageId: string; readonly attempts: number; readonly nextAt: Date; readonly queuedAt: Date } | null
}

export async function readQueueState(db: Queryable, endpointId: string): Promise<QueueState> {
  const { rows } = await db.query<{ depth: number; messageId: string | null; attempts: number; nextAt: Date; queuedAt: Date }>(
    `SELECT (SELECT count(*) FROM delivery WHERE endpoint_id = $1 AND state = 'parked') AS depth, head.* FROM (SELECT) one LEFT JOIN LATERAL (
       SELECT d.message_id AS "messageId", d.attempts, d.next_at AS "nextAt", m.created_at AS "queuedAt"
       FROM delivery d JOIN message m ON m.id = d.message_id
       WHERE d.endpoint_id = $1 AND d.state = 'parked' ORDER BY d.seq LIMIT 1
     ) head ON true`,
    [endpointId],
  )
  const { depth, messageId, attempts, nextAt, queuedAt } = rows[0]!
  return { depth, head: messageId === null ? null : { messageId, attempts, nextAt, queuedAt } }
}

/**
 * Skips what waits for an endpoint: the head, with what shares its request, or all of it. The mailbox looks again.
 * @returns how many
 */
export async function skipQueued(db: Queryable, endpointId: string, which: 'head' | 'all'): Promise<number> {
  const { rows } = await db.query<{ skipped: number }>({
    name: `queue-skip-${which}`,
    text: `WITH head AS (
        SELECT message_id, batch_id, ARRAY(
          SELECT unnest(f.seqs) FROM batch_in_flight f WHERE f.endpoint_id = $1 AND d.seq = ANY (f.seqs)
        ) AS seqs FROM delivery d WHERE endpoint_id = $1 AND state = 'parked' ORDER BY seq LIMIT 1
      ), skipped AS (
        UPDATE delivery d SET state = 'skipped', next_at = NULL, updated_at = now() ${which === 'all' ? '' : 'FROM head'}
        WHERE d.endpoint_id = $1 AND d.state = 'parked' ${which === 'all' ? '' : 'AND (d.message_id = head.message_id OR d.batch_id = head.batch_id OR d.seq = ANY (head.seqs))'}
        RETURNING d.message_id
      ), woken AS (UPDATE mailbox SET wake_at = now() WHERE endpoint_id = $1 AND NOT idle)
      SELECT count(*) AS skipped FROM skipped`,
    values: [endpointId],
  })
  return rows[0]!.skipped
}
