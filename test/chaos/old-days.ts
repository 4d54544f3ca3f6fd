import { lowestIdAt } from '../../domain/ids.ts'
import type { Pool } from '../../storage/pool.ts'

export const DAY_MS = 86_400_000

export interface OldDays {
  readonly todayMs: number
  /** Of the first, the oldest: so many days before today. */
  readonly fromDay: number
  readonly days: number
  readonly rowsPerDay: number
  /** SQL: the payload of the message number `n`. */
  readonly payload?: string
}

/** Messages of `app_old` with a success and a failure each, of days in the past, in the tables of their days. */
export async function fillOldDays(
  pool: Pool,
  { todayMs, fromDay, days, rowsPerDay, payload = `repeat('x', 500)` }: OldDays,
): Promise<void> {
  for (let day = fromDay; day < fromDay + days; day++) {
    const dayMs = todayMs - day * DAY_MS
    for (const parent of ['message', 'attempt'])
      await pool.query('SELECT create_day($1, $2)', [parent, new Date(dayMs).toISOString().slice(0, 10)])
    await pool.query(
      `INSERT INTO message (id, app_id, event_type, payload, created_at, expires_at)
       SELECT $1 || n, 'app_old', 'e', ${payload}, $3, $3::timestamptz + interval '90 days' FROM generate_series(1, $2) n`,
      [lowestIdAt('msg', dayMs), rowsPerDay, new Date(dayMs)],
    )
    await pool.query(
      `INSERT INTO attempt (message_id, id, endpoint_id, app_id, event_type, url, status, response_code, response_body, duration_ms, trigger,
         group_id, run_id, created_at)
       SELECT $1 || n, $2 || s || n, 'ep_old', 'app_old', 'e', 'http://x', s, 0, '', 0, 0, $1, gen_random_uuid(), $4
       FROM generate_series(1, $3) n, generate_series(0, 2, 2) s`,
      [lowestIdAt('msg', dayMs), lowestIdAt('atmpt', dayMs), rowsPerDay, new Date(dayMs)],
    )
  }
}
