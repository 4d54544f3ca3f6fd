import type { EndpointState } from '../domain/breaker.ts'
import type { OperationalEventType } from '../domain/operational.ts'
import type { Ramp } from '../domain/ramp.ts'
import { notifyEndpointState, readEndpointStates } from './endpoint-states.ts'
import { countsFromMsOf, forgetWindow } from './endpoint-windows.ts'
import { tellOfEndpoint } from './operational-events.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'

/** In whole milliseconds, as what is parked until then has it: otherwise its mailbox would be told each time that it wakes too late. */
const END = `date_trunc('milliseconds', now() + $2 * interval '1 ms')`
/** By then every process has read all states again. */
const HEARD_WITHIN = `interval '1 minute'`

interface Owner {
  readonly orgId: string
  readonly appId: string
  readonly appUid: string | null
  readonly uid: string | null
}

/** Tells the owner of an endpoint; nobody where the endpoint is gone. */
async function tellOwner(client: Queryable, endpointId: string, type: OperationalEventType, more: object = {}): Promise<void> {
  const { rows } = await client.query<Owner>(
    `SELECT a.org_id AS "orgId", a.id AS "appId", a.uid AS "appUid", e.uid FROM endpoint e JOIN application a ON a.id = e.app_id
     WHERE e.id = $1 AND e.deleted_at IS NULL`,
    [endpointId],
  )
  const [owner] = rows
  if (owner === undefined) return
  const application = { id: owner.appId, uid: owner.appUid }
  await tellOfEndpoint(client, { type, orgId: owner.orgId, application, endpoint: { id: endpointId, uid: owner.uid }, more })
}

/** Makes a change of a state where its statement finds it possible; then every process hears of it. @returns whether */
async function change(client: Queryable, endpointId: string, text: string, ...values: unknown[]): Promise<boolean> {
  const { rowCount } = await client.query(text, [endpointId, ...values])
  if (rowCount === 0) return false
  await notifyEndpointState(client, endpointId)
  return true
}

/** Opens a breaker where the statement finds it possible. @returns until when, as the state has it; undefined where it did not */
async function open(client: Queryable, endpointId: string, text: string, ...values: unknown[]): Promise<string | undefined> {
  const { rows } = await client.query<{ until: Date }>(`${text} RETURNING until`, [endpointId, ...values])
  if (rows[0] === undefined) return undefined
  await notifyEndpointState(client, endpointId)
  return rows[0].until.toISOString()
}

/** Forgets what is known of an endpoint that was disabled. Call it in a transaction. */
export async function forgetDisabled(client: Queryable, endpointId: string): Promise<void> {
  await client.query('DELETE FROM endpoint_failing WHERE endpoint_id = $1', [endpointId])
  await change(client, endpointId, 'DELETE FROM endpoint_state WHERE endpoint_id = $1')
}

/**
 * Opens the breaker of a live endpoint that has one and whose breaker is closed or recovering.
 * @param judged what it opens for; where `countsFromMs` is given it does not open if the endpoint has begun to count anew since
 * @returns whether it was this call that opened it
 */
export async function openBreaker(
  pool: Pool,
  endpointId: string,
  openMs: number,
  judged: { successRate: number; countsFromMs?: number },
): Promise<boolean> {
  return inTransaction(pool, async (client) => {
    const until = await open(
      client,
      endpointId,
      `INSERT INTO endpoint_state AS s (endpoint_id, app_id, breaker, until)
       SELECT id, app_id, 'open', ${END} FROM endpoint WHERE id = $1 AND deleted_at IS NULL AND NOT disabled AND circuit_breaker
       ON CONFLICT (endpoint_id) DO UPDATE SET breaker = 'open', since = now(), until = excluded.until, probes = 0, ramp_rate = NULL, ramp_from = NULL
       WHERE s.breaker IN ('closed', 'recovering') AND ($3::float8 IS NULL OR $3 = ${countsFromMsOf('s')})`,
      openMs,
      judged.countsFromMs,
    )
    if (until === undefined) return false
    await forgetWindow(client, endpointId)
    await tellOwner(client, endpointId, 'endpoint.breaker.opened', { until, successRate: judged.successRate })
    return true
  })
}

/** Makes an open breaker half-open when its time has come. */
export async function beginProbing(pool: Pool, endpointId: string): Promise<void> {
  await inTransaction(pool, (client) =>
    change(
      client,
      endpointId,
      `UPDATE endpoint_state SET breaker = 'half-open', since = now(), until = NULL, probes = 0
       WHERE endpoint_id = $1 AND breaker = 'open' AND until <= now()`,
    ),
  )
}

/** Probes were answered well, but not enough of them. */
export async function countProbes(pool: Pool, endpointId: string, delivered: number): Promise<void> {
  await inTransaction(pool, (client) =>
    change(
      client,
      endpointId,
      `UPDATE endpoint_state SET probes = probes + $2 WHERE endpoint_id = $1 AND breaker = 'half-open'`,
      delivered,
    ),
  )
}

/** A probe has failed. */
export async function reopenBreaker(pool: Pool, endpointId: string, openMs: number): Promise<void> {
  await inTransaction(pool, async (client) => {
    const until = await open(
      client,
      endpointId,
      `UPDATE endpoint_state SET breaker = 'open', since = now(), until = ${END}, probes = 0
       WHERE endpoint_id = $1 AND breaker = 'half-open'`,
      openMs,
    )
    if (until !== undefined) await tellOwner(client, endpointId, 'endpoint.breaker.probe-failed', { until })
  })
}

/** The probes went well: what waits is released along a ramp. */
export async function beginRecovery(pool: Pool, endpointId: string, rate: number): Promise<void> {
  await inTransaction(pool, async (client) => {
    if (await recover(client, endpointId, rate, ['half-open'])) await forgetWindow(client, endpointId)
  })
}

/** The caller forgets the window last, so that what others add meanwhile goes with it. */
async function recover(client: Queryable, endpointId: string, rate: number, from: readonly string[]): Promise<boolean> {
  const recovers = await change(
    client,
    endpointId,
    `UPDATE endpoint_state SET breaker = 'recovering', since = now(), until = NULL, probes = 0, ramp_rate = $2, ramp_from = now(), counts_from = clock_timestamp()
     WHERE endpoint_id = $1 AND breaker = ANY($3::text[])`,
    rate,
    from,
  )
  if (!recovers) return false
  await tellOwner(client, endpointId, 'endpoint.breaker.closed')
  return true
}

/**
 * The owner says that the endpoint works: what waits for the breaker is due now. Call it in a transaction.
 * @param rate that its recovery begins with, requests a second
 * @returns false where the breaker is closed, or recovering already
 */
export async function forceClose(client: Queryable, endpointId: string, rate: number): Promise<boolean> {
  const state = await readEndpointState(client, endpointId)
  if (!(await recover(client, endpointId, rate, ['open', 'half-open']))) return false
  if (state?.untilMs) {
    await client.query(
      `UPDATE delivery SET next_at = now() WHERE endpoint_id = $1 AND state = 'parked' AND next_at > now() AND next_at <= to_timestamp($2::float8 / 1000)`,
      [endpointId, state.untilMs],
    )
  }
  // The mailbox settles it: it finds what waits, or nothing and closes.
  await client.query(
    `INSERT INTO mailbox (endpoint_id, idle, wake_at) VALUES ($1, false, now())
     ON CONFLICT (endpoint_id) DO UPDATE SET idle = false, wake_at = now()`,
    [endpointId],
  )
  await forgetWindow(client, endpointId)
  return true
}

/**
 * Forgets all that was learnt of an endpoint, because its URL is another. What waits for its breaker is released along the ramp.
 * Call it in the transaction that changes the URL.
 * @returns whether its mailbox has something to do
 */
export async function beginAnew(client: Queryable, endpointId: string, rate: number): Promise<boolean> {
  const released = await forceClose(client, endpointId, rate)
  await change(
    client,
    endpointId,
    `INSERT INTO endpoint_state AS s (endpoint_id, app_id, counts_from) SELECT id, app_id, clock_timestamp() FROM endpoint WHERE id = $1
     ON CONFLICT (endpoint_id) DO UPDATE SET counts_from = clock_timestamp(), slow_since = NULL, until = NULL,
       ramp_rate = CASE WHEN s.breaker = 'recovering' THEN s.ramp_rate END, ramp_from = CASE WHEN s.breaker = 'recovering' THEN s.ramp_from END`,
  )
  await client.query('DELETE FROM endpoint_failing WHERE endpoint_id = $1', [endpointId])
  await forgetWindow(client, endpointId)
  return released
}

/**
 * Ends a recovery, and a probing that went well, where nothing waits any more. Call it in the transaction that has found so and
 * holds the mailbox's row.
 */
export async function closeBreaker(client: Queryable, endpointId: string): Promise<void> {
  const [state] = await readEndpointStates(client, [endpointId])
  if (state === undefined || state.breaker === 'closed' || state.breaker === 'open') return
  if (state.breaker === 'half-open' && state.probes === 0) return
  const closes = `endpoint_id = $1 AND breaker = $2 AND probes = $3`
  // That it is slow may be written just now: the row is deleted only where it says nothing else.
  const gone = `DELETE FROM endpoint_state WHERE ${closes} AND slow_since IS NULL`
  const stays = `UPDATE endpoint_state SET breaker = 'closed', since = now(), probes = 0, ramp_rate = NULL, ramp_from = NULL WHERE ${closes}`
  const closed =
    (await change(client, endpointId, gone, state.breaker, state.probes)) ||
    (await change(client, endpointId, stays, state.breaker, state.probes))
  if (closed && state.breaker === 'half-open') await tellOwner(client, endpointId, 'endpoint.breaker.closed')
}

/** Sends to an endpoint no more than it takes, for a while. */
export async function slowDown(pool: Pool, endpointId: string, ramp: Ramp, untilMs: number): Promise<void> {
  await inTransaction(pool, (client) =>
    change(
      client,
      endpointId,
      `INSERT INTO endpoint_state AS s (endpoint_id, app_id, ramp_rate, ramp_from, until)
       SELECT id, app_id, $2, to_timestamp($3::float8 / 1000), to_timestamp($4::float8 / 1000) FROM endpoint
       WHERE id = $1 AND deleted_at IS NULL AND NOT disabled AND circuit_breaker
       ON CONFLICT (endpoint_id) DO UPDATE SET ramp_rate = excluded.ramp_rate, ramp_from = excluded.ramp_from,
         until = CASE WHEN s.breaker = 'closed' THEN excluded.until ELSE s.until END
       WHERE s.breaker IN ('closed', 'recovering') AND (s.ramp_from IS NULL OR s.ramp_from < excluded.ramp_from)`,
      ramp.rate,
      ramp.fromMs,
      untilMs,
    ),
  )
}

/** An episode of slow answers begins: its owner is told, once. */
export async function beginSlowness(pool: Pool, endpointId: string, p95Ms: number): Promise<void> {
  await inTransaction(pool, async (client) => {
    const begins = await change(
      client,
      endpointId,
      `INSERT INTO endpoint_state AS s (endpoint_id, app_id, slow_since)
       SELECT id, app_id, now() FROM endpoint WHERE id = $1 AND deleted_at IS NULL AND NOT disabled
       ON CONFLICT (endpoint_id) DO UPDATE SET slow_since = now() WHERE s.slow_since IS NULL`,
    )
    if (begins) await tellOwner(client, endpointId, 'endpoint.slow', { p95Ms: Math.round(p95Ms) })
  })
}

export async function endSlowness(pool: Pool, endpointId: string): Promise<void> {
  await inTransaction(pool, (client) =>
    change(client, endpointId, `UPDATE endpoint_state SET slow_since = NULL WHERE endpoint_id = $1 AND slow_since IS NOT NULL`),
  )
}

/** Tells the owner that the endpoint is going to be disabled, once. */
export async function warnOfDisabling(pool: Pool, endpointId: string, failingSinceMs: number, disabledAtMs: number): Promise<void> {
  await inTransaction(pool, async (client) => {
    const { rowCount } = await client.query('UPDATE endpoint_failing SET told_at = now() WHERE endpoint_id = $1 AND told_at IS NULL', [
      endpointId,
    ])
    const times = { failSince: new Date(failingSinceMs).toISOString(), disabledAt: new Date(disabledAtMs).toISOString() }
    if (rowCount !== 0) await tellOwner(client, endpointId, 'endpoint.disabling', times)
  })
}

/** Ends what has ended by itself, and what endpoints had that are gone or disabled. */
export async function forgetStates(pool: Pool): Promise<void> {
  await inTransaction(pool, async (client) => {
    const gone = `NOT EXISTS (SELECT FROM endpoint e WHERE e.id = endpoint_id AND e.deleted_at IS NULL AND NOT e.disabled)`
    const { rows } = await client.query<{ endpoint_id: string }>(
      `DELETE FROM endpoint_state WHERE ${gone} OR (breaker = 'closed' AND slow_since IS NULL AND (until IS NULL OR until < now())
         AND (counts_from IS NULL OR counts_from < now() - ${HEARD_WITHIN}))
       RETURNING endpoint_id`,
    )
    for (const { endpoint_id: endpointId } of rows) await notifyEndpointState(client, endpointId)
    await client.query(`DELETE FROM endpoint_failing WHERE ${gone}`)
  })
}

/** The state of one endpoint as it is in Postgres. */
export async function readEndpointState(db: Queryable, endpointId: string): Promise<EndpointState | undefined> {
  return (await readEndpointStates(db, [endpointId]))[0]
}
