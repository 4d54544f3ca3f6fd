import assert from 'node:assert/strict'
import type { Pool } from '../../storage/pool.ts'
import { eventually } from './eventually.ts'
import { eventIdOf } from './publishers.ts'
import { pairOf, type Targets } from './targets.ts'

/** What Postgres knows of an application's deliveries. */
interface Books {
  /** Message ids by event id. */
  readonly messages: ReadonlyMap<string, string>
  /** Attempts by pair. */
  readonly attempts: ReadonlyMap<string, { readonly all: number; readonly successes: number }>
  /** State of the row in `delivery`, by pair. */
  readonly waiting: ReadonlyMap<string, string>
}

async function readBooks(pool: Pool, appId: string): Promise<Books> {
  const messages = await pool.query<{ event_id: string; id: string }>('SELECT event_id, id FROM message WHERE app_id = $1', [appId])
  const attempts = await readAttempts(pool, appId)
  const waiting = await pool.query<{ message_id: string; endpoint_id: string; state: string }>(
    'SELECT message_id, endpoint_id, state FROM delivery WHERE app_id = $1',
    [appId],
  )
  return {
    messages: new Map(messages.rows.map((row) => [row.event_id, row.id])),
    attempts,
    waiting: new Map(waiting.rows.map((row) => [pairOf(row.message_id, row.endpoint_id), row.state])),
  }
}

async function readAttempts(pool: Pool, appId: string): Promise<Books['attempts']> {
  const { rows } = await pool.query<{ message_id: string; endpoint_id: string; total: number; successes: number }>(
    `SELECT message_id, endpoint_id, count(*) AS total, count(*) FILTER (WHERE status = 0) AS successes
     FROM attempt WHERE app_id = $1 GROUP BY message_id, endpoint_id`,
    [appId],
  )
  return new Map(rows.map((row) => [pairOf(row.message_id, row.endpoint_id), { all: row.total, successes: row.successes }]))
}

/**
 * Pairs whose request has reached its endpoint and whose attempt is in no committed row: what was in flight, or answered and
 * unrecorded, when the process that sent them was killed. To be asked before another process sends anything.
 */
export async function readInFlight(pool: Pool, targets: Targets): Promise<Set<string>> {
  await untilOldStatementsEnded(pool)
  const recorded = await readAttempts(pool, targets.appId)
  return new Set([...targets.arrivals].filter(([pair, count]) => count > (recorded.get(pair)?.all ?? 0)).map(([pair]) => pair))
}

/** A killed process may have left a statement that Postgres still executes. */
async function untilOldStatementsEnded(pool: Pool): Promise<void> {
  const { rows } = await pool.query<{ now: string }>('SELECT clock_timestamp()::text AS now')
  await eventually({ what: 'the end of statements begun before the kill', withinMs: 10_000 }, async () => {
    const { rowCount } = await pool.query(
      `SELECT FROM pg_stat_activity WHERE application_name = 'tidings' AND state = 'active' AND query_start < $1::timestamptz
         AND pid <> pg_backend_pid()`,
      [rows[0]!.now],
    )
    return rowCount === 0
  })
}

export interface Settled {
  readonly events: number
  readonly withinMs: number
}

/** Waits until Postgres has every event delivered to each healthy endpoint and waiting for the failing one. */
export async function untilSettled(pool: Pool, targets: Targets, { events, withinMs }: Settled): Promise<void> {
  let seen: unknown
  const what = `${events} events delivered to each healthy endpoint and parked or dead at the failing one`
  await eventually({ what, withinMs, told: () => JSON.stringify(seen) }, async () => {
    const { rows } = await pool.query<{ messages: number; outbox: number; delivered: number; waiting: number; parked: number }>(
      `SELECT (SELECT count(*) FROM message WHERE app_id = $1) AS messages,
         (SELECT count(*) FROM outbox WHERE app_id = $1) AS outbox,
         (SELECT count(*) FROM (SELECT DISTINCT message_id, endpoint_id FROM attempt WHERE app_id = $1 AND status = 0) pairs) AS delivered,
         (SELECT count(*) FROM delivery WHERE app_id = $1 AND state = 'retrying') AS waiting,
         (SELECT count(*) FROM delivery WHERE app_id = $1 AND endpoint_id = $2 AND state IN ('parked', 'dead')) AS parked`,
      [targets.appId, targets.failing],
    )
    const now = rows[0]!
    seen = now
    return now.outbox === 0 && now.delivered >= events * targets.healthy.length && now.parked >= events
  })
}

export interface Account {
  readonly delivered: number
  readonly waiting: number
  /** Requests beyond the first that healthy endpoints got, by pair. */
  readonly duplicates: ReadonlyMap<string, number>
  /** Requests that no attempt in Postgres tells of: in flight, or answered and unrecorded, when their process was killed. */
  readonly unrecorded: number
}

/**
 * Holds every accepted event against what arrived and what Postgres says: each pair with a healthy endpoint has arrived and
 * has a success, each pair with the failing endpoint has a row that is parked, or waits or is dead after an attempt. What is recorded as
 * delivered must not have been sent again, whoever was killed.
 */
export async function account(pool: Pool, targets: Targets, events: number): Promise<Account> {
  const books = await readBooks(pool, targets.appId)
  const lost: string[] = []
  const repeated: string[] = []
  const duplicates = new Map<string, number>()
  const totals = { delivered: 0, waiting: 0, unrecorded: 0 }
  assert.equal(books.messages.size, events, 'events stored')
  for (let index = 0; index < events; index++) {
    const messageId = books.messages.get(eventIdOf(index))
    assert.ok(messageId !== undefined, `${eventIdOf(index)} was accepted and is not stored`)
    for (const endpointId of targets.healthy) {
      const pair = pairOf(messageId, endpointId)
      const arrived = targets.arrivals.get(pair) ?? 0
      const { all = 0, successes = 0 } = books.attempts.get(pair) ?? {}
      if (arrived === 0 || successes === 0 || books.waiting.has(pair)) lost.push(pair)
      else totals.delivered++
      if (successes > 1) repeated.push(pair)
      if (arrived > 1) duplicates.set(pair, arrived - 1)
      totals.unrecorded += Math.max(0, arrived - all)
    }
    const pair = pairOf(messageId, targets.failing)
    const attempts = books.attempts.get(pair)?.all ?? 0
    const state = books.waiting.get(pair)
    // While its circuit breaker is open nothing is sent: the row alone keeps the delivery.
    if (state === 'parked' || (attempts > 0 && (state === 'retrying' || state === 'dead'))) totals.waiting++
    else lost.push(pair)
    totals.unrecorded += Math.max(0, (targets.arrivals.get(pair) ?? 0) - attempts)
  }
  assert.deepEqual(lost.slice(0, 10), [], `${lost.length} pairs are lost`)
  assert.deepEqual(repeated.slice(0, 10), [], `${repeated.length} pairs were sent again though their delivery was recorded`)
  return { ...totals, duplicates }
}

export const sum = (numbers: Iterable<number>) => [...numbers].reduce((total, one) => total + one, 0)
