import { LIMITS } from '../domain/limits.ts'
import type { NewMessage } from '../domain/message.ts'
import { acceptMessages, UNROUTED, type Routing } from './accept.ts'
import { OUTBOX_CHANNEL } from './outbox.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'
import type { MailboxWake } from './records.ts'

/** What became of messages that were stored in one transaction. */
export interface StoredTogether {
  /** Ids of the messages stored. */
  readonly accepted: ReadonlySet<string>
  /** Ids of the messages whose idempotency key has been published with before. */
  readonly repeated: ReadonlySet<string>
  /** Ids of the messages that wait in the outbox. */
  readonly fannedOut: ReadonlySet<string>
  /** Unix milliseconds: set where the schedule's workflow sleeps, or sleeps longer, and must be woken. */
  readonly wakeAtMs: number | undefined
  /** Mailboxes that have to be woken. */
  readonly wakes: readonly MailboxWake[]
}

/** Some messages were not stored: the transaction is undone. */
class NotAllStored extends Error {
  readonly result: StoredTogether

  constructor(result: StoredTogether) {
    super('not all messages could be stored')
    this.result = result
  }
}

/**
 * Stores messages in one transaction, all or none. Those with a `deliverAtMs` wait for it, the others wait in the outbox,
 * ungrouped, unless they are routed.
 * @param routing of messages that wait for their time nothing: they are fanned out when their time has come
 */
export async function storeTogether(pool: Pool, messages: readonly NewMessage[], routing: Routing = UNROUTED): Promise<StoredTogether> {
  try {
    return await inTransaction(pool, async (client) => {
      const stored = await acceptMessages(client, messages, false, 0, routing)
      const { accepted, repeated } = stored
      if (accepted.size < messages.length) {
        throw new NotAllStored({ accepted, repeated, fannedOut: new Set(), wakeAtMs: undefined, wakes: [] })
      }
      await storeEnvelopes(client, messages)
      const untimed = messages.filter(({ id, deliverAtMs }) => deliverAtMs === undefined && stored.fannedOut.has(id))
      const fannedOut = new Set(untimed.map(({ id }) => id))
      return { accepted, repeated, fannedOut, wakeAtMs: await moveToSchedule(client, messages), wakes: stored.wakes }
    })
  } catch (error) {
    if (error instanceof NotAllStored) return error.result
    throw error
  }
}

async function storeEnvelopes(db: Queryable, messages: readonly NewMessage[]): Promise<void> {
  const dressed = messages.filter((message) => message.envelope !== undefined)
  if (dressed.length === 0) return
  await db.query({
    name: 'message-envelopes',
    text: 'UPDATE message SET envelope = t.envelope FROM unnest($1::text[], $2::jsonb[]) AS t (id, envelope) WHERE message.id = t.id',
    values: [dressed.map((message) => message.id), dressed.map((message) => JSON.stringify(message.envelope))],
  })
}

/** Takes what has a time out of the outbox, where the same transaction has put it. @returns when the schedule must be woken */
export async function moveToSchedule(db: Queryable, messages: readonly NewMessage[]): Promise<number | undefined> {
  const timed = messages.filter((message) => message.deliverAtMs !== undefined)
  if (timed.length === 0) return undefined
  const { rows } = await db.query<{ wake_at: Date }>({
    name: 'scheduled-move',
    text: `WITH input AS (SELECT * FROM unnest($1::text[], $2::float8[]) AS t (id, deliver_ms)),
      timed AS (SELECT id, to_timestamp(deliver_ms / 1000) AS deliver_at FROM input),
      stored AS (UPDATE message SET deliver_at = timed.deliver_at FROM timed WHERE message.id = timed.id),
      taken AS (DELETE FROM outbox WHERE id IN (SELECT id FROM timed) RETURNING id, app_id, event_type),
      waiting AS (
        INSERT INTO scheduled_message (message_id, app_id, event_type, deliver_at)
        SELECT taken.id, app_id, event_type, deliver_at FROM taken JOIN timed USING (id)
      ), first AS (SELECT min(deliver_at) AS deliver_at FROM taken JOIN timed USING (id))
      UPDATE schedule_timer SET wake_at = first.deliver_at FROM first
      WHERE first.deliver_at IS NOT NULL AND (schedule_timer.wake_at IS NULL OR schedule_timer.wake_at > first.deliver_at)
      RETURNING schedule_timer.wake_at`,
    values: [timed.map((message) => message.id), timed.map((message) => message.deliverAtMs)],
  })
  return rows[0]?.wake_at.getTime()
}

/**
 * Puts messages that are due into the outbox: each row leaves the schedule and enters the outbox in one statement.
 * @returns how many; fewer than `LIMITS.releaseBatch` where no more are due
 */
export async function releaseDue(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ released: number }>({
    name: 'scheduled-release',
    text: `WITH due AS (
        DELETE FROM scheduled_message WHERE message_id IN (
          SELECT message_id FROM scheduled_message WHERE deliver_at <= now() ORDER BY deliver_at LIMIT $1 FOR UPDATE SKIP LOCKED
        ) RETURNING message_id, app_id, event_type
      ), queued AS (
        INSERT INTO outbox (id, message_id, app_id, event_type, priority)
        SELECT message_id, message_id, due.app_id, due.event_type, message.priority FROM due JOIN message ON message.id = due.message_id
        ON CONFLICT DO NOTHING
      )
      SELECT count(*)::int AS released, CASE WHEN count(*) > 0 THEN pg_notify($2, '') END FROM due`,
    values: [LIMITS.releaseBatch, OUTBOX_CHANNEL],
  })
  return rows[0]!.released
}

/**
 * Ends a release: in one transaction finds what still waits and writes down until when the workflow sleeps, so that whoever
 * schedules something earlier knows that it has to be woken.
 * @returns Unix milliseconds of the earliest, or null
 */
export async function settleSchedule(pool: Pool): Promise<number | null> {
  return inTransaction(pool, async (client) => {
    await client.query('SELECT FROM schedule_timer FOR UPDATE')
    const { rows } = await client.query<{ wake_at: Date | null }>(
      'UPDATE schedule_timer SET wake_at = (SELECT min(deliver_at) FROM scheduled_message) RETURNING wake_at',
    )
    return rows[0]!.wake_at?.getTime() ?? null
  })
}

/** @returns Unix milliseconds where the schedule's time has passed by `graceMs` without a release: its wake was lost */
export async function overdueSchedule(db: Queryable, graceMs: number): Promise<number | undefined> {
  const { rows } = await db.query<{ wake_at: Date }>({
    name: 'scheduled-overdue',
    text: `SELECT wake_at FROM schedule_timer WHERE wake_at < now() - $1 * interval '1 ms'`,
    values: [graceMs],
  })
  return rows[0]?.wake_at.getTime()
}
