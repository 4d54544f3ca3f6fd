import type { HoldBackInput } from '../domain/fan-out.ts'
import { NO_RUN, type AttemptTrigger } from '../domain/outcome.ts'
import { closeBreaker } from './endpoint-state.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'

export interface WaitingDelivery {
  readonly messageId: string
  readonly attempts: number
  readonly nextAtMs: number
}

/** What is known of one delivery of a fan-out. */
export interface DeliveryState {
  readonly messageId: string
  /**
   * `new`: this run has recorded no attempt. `over`: it has, and nothing waits any more. `elsewhere`: a later fan-out (a
   * resend, a replay) has taken it over.
   */
  readonly state: 'new' | 'over' | 'elsewhere' | 'retrying' | 'parked' | 'dead' | 'skipped' | 'cancelled'
  readonly attempts: number
  readonly nextAtMs: number
}

/** States of the named messages at one endpoint, as the fan-out `groupId` in its run `runId` must see them. */
export async function readDeliveryStates(
  db: Queryable,
  input: { endpointId: string; messageIds: readonly string[]; groupId: string; runId: string },
): Promise<DeliveryState[]> {
  const { rows } = await db.query<{ message_id: string; state: DeliveryState['state']; attempts: number; next_at: Date | null }>({
    name: 'delivery-states',
    text: `SELECT asked.message_id, coalesce(d.attempts, 0) AS attempts, d.next_at,
        CASE
          WHEN d.state IS NOT NULL AND d.group_id = $3 THEN d.state
          WHEN d.state IN ('retrying', 'parked') THEN 'elsewhere'
          WHEN EXISTS (SELECT FROM attempt a WHERE a.message_id = asked.message_id AND a.id >= earliest_attempt(asked.message_id) AND a.endpoint_id = $2 AND a.run_id = $4) THEN 'over'
          ELSE 'new'
        END AS state
      FROM unnest($1::text[]) AS asked (message_id)
      LEFT JOIN delivery d ON d.message_id = asked.message_id AND d.endpoint_id = $2`,
    values: [input.messageIds, input.endpointId, input.groupId, input.runId],
  })
  return rows.map((row) => ({
    messageId: row.message_id,
    state: row.state,
    attempts: row.state === 'new' ? 0 : row.attempts,
    nextAtMs: row.next_at?.getTime() ?? 0,
  }))
}

/** A delivery of a group that waits for its retry. */
export interface RetryingDelivery {
  readonly messageId: string
  readonly endpointId: string
  readonly appId: string
  readonly attempts: number
  readonly trigger: AttemptTrigger
  readonly retried: boolean
}

/** What of a group waits for a retry at the named endpoints. */
export async function readRetrying(db: Queryable, groupId: string, endpoints: HoldBackInput['endpoints']): Promise<RetryingDelivery[]> {
  const { rows } = await db.query<RetryingDelivery>({
    name: 'group-retrying',
    text: `SELECT message_id AS "messageId", endpoint_id AS "endpointId", app_id AS "appId", attempts, trigger, retried
      FROM delivery JOIN unnest($2::text[], $3::text[]) AS asked (message_id, endpoint_id) USING (message_id, endpoint_id)
      WHERE group_id = $1 AND state = 'retrying'`,
    values: [groupId, endpoints.flatMap((one) => one.messageIds), endpoints.flatMap((one) => one.messageIds.map(() => one.endpointId))],
  })
  return rows
}

/** One attempt that this run has already recorded. */
export interface RecordedAttempt {
  readonly messageId: string
  readonly endpointId: string
  readonly delivered: boolean
}

/**
 * What a run has recorded, so that its re-execution does not send it again; and what waits in a mailbox for its first request.
 * The first run of a group has what was begun with its start, too.
 */
export async function readRecordedAttempts(
  db: Queryable,
  input: { messageIds: readonly string[]; groupId: string; runId: string; isFirstRun: boolean },
): Promise<RecordedAttempt[]> {
  const { rows } = await db.query<{ message_id: string; endpoint_id: string; delivered: boolean }>({
    name: 'run-attempts',
    text: `SELECT message_id, endpoint_id, bool_or(status = 0) AS delivered FROM attempt
      WHERE message_id = ANY($1::text[]) AND id >= earliest_attempt((SELECT min(id) FROM unnest($1::text[]) AS id))
        AND (run_id = $2 OR ($4 AND run_id = '${NO_RUN}' AND group_id = $3)) GROUP BY message_id, endpoint_id
      UNION
      SELECT message_id, endpoint_id, false FROM delivery
      WHERE message_id = ANY($1::text[]) AND group_id = $3 AND state = 'parked' AND attempts = 0`,
    values: [input.messageIds, input.runId, input.groupId, input.isFirstRun],
  })
  return rows.map((row) => ({ messageId: row.message_id, endpointId: row.endpoint_id, delivered: row.delivered }))
}

/** Parked deliveries of an endpoint that are due, the longest waiting first. */
export async function readDueParked(db: Queryable, endpointId: string, nowMs: number, limit: number): Promise<ParkedDelivery[]> {
  const { rows } = await db.query<{
    message_id: string
    attempts: number
    trigger: number
    group_id: string
    next_at: Date
    retried: boolean
  }>({
    name: 'parked-due',
    text: `SELECT message_id, attempts, trigger, group_id, next_at, retried FROM delivery
      WHERE endpoint_id = $1 AND state = 'parked' AND next_at <= to_timestamp($2::float8 / 1000) ORDER BY next_at, message_id LIMIT $3`,
    values: [endpointId, nowMs, limit],
  })
  return rows.map((row) => ({
    messageId: row.message_id,
    attempts: row.attempts,
    trigger: row.trigger === 1 ? 1 : 0,
    groupId: row.group_id,
    nextAtMs: row.next_at.getTime(),
    retried: row.retried,
  }))
}

export interface ParkedDelivery extends WaitingDelivery {
  readonly trigger: 0 | 1
  readonly groupId: string
  /** False: a single attempt. */
  readonly retried: boolean
}

/**
 * Ends a drain: in one transaction finds what still waits and marks the mailbox idle where nothing does, so that whoever
 * parks next knows that it has to be woken. With the last of them a recovery ends. An open breaker moves the time: nothing is
 * sent before it is probed. What is due already counts from now, so that no sweep takes a mailbox at work for a lost one.
 * @returns Unix milliseconds of the earliest due time, or null
 */
export async function settleMailbox(pool: Pool, endpointId: string): Promise<number | null> {
  return inTransaction(pool, async (client) => {
    await client.query('INSERT INTO mailbox (endpoint_id, idle) VALUES ($1, true) ON CONFLICT DO NOTHING', [endpointId])
    await client.query('SELECT FROM mailbox WHERE endpoint_id = $1 FOR UPDATE', [endpointId])
    const { rows } = await client.query<{ next_at: Date | null }>(
      `SELECT greatest(min(next_at), now(), (SELECT until FROM endpoint_state WHERE endpoint_id = $1 AND breaker = 'open')) AS next_at
       FROM delivery WHERE endpoint_id = $1 AND state = 'parked' HAVING min(next_at) IS NOT NULL`,
      [endpointId],
    )
    const nextAt = rows[0]?.next_at ?? null
    if (nextAt === null) await closeBreaker(client, endpointId)
    await client.query('UPDATE mailbox SET idle = $2::timestamptz IS NULL, wake_at = $2 WHERE endpoint_id = $1', [endpointId, nextAt])
    return nextAt?.getTime() ?? null
  })
}

/** Mailboxes whose time has passed by `graceMs` without their workflow having drained them: their wake was lost. */
export async function overdueMailboxes(db: Queryable, graceMs: number, limit: number): Promise<{ endpointId: string; wakeAtMs: number }[]> {
  const { rows } = await db.query<{ endpoint_id: string; wake_at: Date }>({
    name: 'mailboxes-overdue',
    text: `SELECT endpoint_id, wake_at FROM mailbox WHERE NOT idle AND wake_at < now() - $1 * interval '1 ms' ORDER BY wake_at LIMIT $2`,
    values: [graceMs, limit],
  })
  return rows.map((row) => ({ endpointId: row.endpoint_id, wakeAtMs: row.wake_at.getTime() }))
}

/**
 * Ends deliveries that wait, without a request: by an operator's decision, or because their endpoint or their message is gone.
 * A parked one that stayed would be due for ever.
 */
export async function endDeliveries(
  db: Queryable,
  input: { endpointId: string; messageIds: readonly string[]; groupId: string; state: 'dead' | 'skipped' | 'cancelled' },
): Promise<void> {
  await db.query({
    name: 'deliveries-end',
    text: `INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, group_id)
      SELECT asked.id, $2, coalesce(d.app_id, m.app_id), $3, 0, $4
      FROM unnest($1::text[]) AS asked (id)
      LEFT JOIN delivery d ON d.message_id = asked.id AND d.endpoint_id = $2
      LEFT JOIN message m ON m.id = asked.id
      WHERE coalesce(d.app_id, m.app_id) IS NOT NULL ORDER BY asked.id
      ON CONFLICT (message_id, endpoint_id) DO UPDATE SET state = excluded.state, next_at = NULL, updated_at = now()
      WHERE delivery.state IN ('retrying', 'parked')`,
    values: [input.messageIds, input.endpointId, input.state, input.groupId],
  })
}
