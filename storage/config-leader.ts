import { setTimeout as pause } from 'node:timers/promises'
import type { PoolClient } from 'pg'
import { ConfigurationUnavailableError, ConfigurationUnconfirmedError } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import { releaseToRegions } from './config-quorum.ts'
import { TIMELINE } from './config-subscription.ts'
import { isPassingFault } from './faults.ts'
import { asking, createPool, queryableOf, type Ask, type Pool, type Queryable } from './pool.ts'

/** Connections of this process to the leader: configuration changes seldom. */
const CONNECTIONS = 4
/** How long after the first member that says it is the leader another may say so too. */
const SECOND_LEADER_WITHIN_MS = 100
const CLOCK_POLL_MS = 100
/** How long a change waits for the clock: a new leader's stands still until it is wound. */
const CLOCK_WAIT_MS = 1000

/**
 * The place where configuration is written: the leader of a Postgres cluster, found again when another becomes it. Its `query`
 * reads there, and throws {ConfigurationUnavailableError} where there is none, or it is cut off from the others.
 */
export interface ConfigLeader extends Queryable {
  /**
   * A pool to the leader.
   * @throws {ConfigurationUnavailableError} where no member is writable
   */
  find(): Promise<Pool>
  /** What was found is asked no more. */
  lose(): void
  /**
   * One transaction at the leader, that enough members have confirmed when this resolves.
   * @throws {ConfigurationUnavailableError} nothing was changed: there is no leader, or its changes are not confirmed now
   * @throws {ConfigurationUnconfirmedError} it is not known whether the change holds
   */
  transaction<T>(work: (client: PoolClient) => Promise<T>): Promise<T>
  stop(): Promise<void>
}

/**
 * @param urls of all members, `postgres://`
 * @param statementMs how long one statement, or a commit, is waited for
 */
export function createConfigLeader(urls: readonly string[], statementMs: number = LIMITS.configStatementMs): ConfigLeader {
  const timeouts = { statementMs, connectMs: LIMITS.configMemberMs }
  const members = urls.map((url) => createPool(url, CONNECTIONS, timeouts))
  // A connection may break while it is held and nothing is asked on it; without a listener that ends the process.
  for (const pool of members) pool.on('connect', (client) => client.on('error', () => undefined))
  let found: Promise<Pool> | undefined
  const lose = () => {
    found = undefined
  }
  const find = (): Promise<Pool> => {
    if (found !== undefined) return found
    const finding = findWritable(members)
    finding.catch(() => {
      if (found === finding) lose()
    })
    found = finding
    return finding
  }
  const ask: Ask = async (...args) => {
    for (let again = true; ; again = false) {
      const pool = await find()
      try {
        // A leader that is cut off does not know what another has written since.
        await waitForClock(pool)
        return await asking(pool)(...args)
      } catch (error) {
        if (!isAway(error)) throw error
        lose()
        if (!again) throw unavailable(error)
      }
    }
  }
  return {
    find,
    lose,
    ...queryableOf(ask),
    async transaction<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
      const { client, pool } = await begin({ find, lose })
      let result: T
      try {
        result = await work(client)
      } catch (error) {
        const left = await rolledBack(client, error)
        if (left) lose()
        throw left || isHeldUp(error) ? unavailable(error) : error
      }
      await commit(client, lose)
      await releaseToRegions(pool)
      return result
    },
    async stop() {
      await Promise.all(members.map((pool) => pool.end()))
    },
  }
}

function unavailable(cause: unknown): ConfigurationUnavailableError {
  return cause instanceof ConfigurationUnavailableError
    ? cause
    : new ConfigurationUnavailableError('Configuration cannot be reached where it is written', { cause })
}

/** Whether the member, or the way to it, is at fault: another may be the leader by now. */
function isAway(error: unknown): boolean {
  return (isPassingFault(error) && !isHeldUp(error)) || (error instanceof Error && /query read timeout/i.test(error.message))
}

// Waiting for a row that a change without a quorum holds, a time limit of a statement, a deadlock: the member is there.
const HELD_UP = new Set(['55P03', '57014', '40P01', '40001'])

function isHeldUp(error: unknown): boolean {
  return error instanceof Error && 'code' in error && HELD_UP.has(String(error.code))
}

interface Standing {
  readonly pool: Pool
  /** Rises with every change of leader. */
  readonly timeline: string
}

/** The member that is writable; of two (a leader that does not know yet that it is none) the one that became it last. */
async function findWritable(members: readonly Pool[]): Promise<Pool> {
  const writable: Standing[] = []
  const asked = members.map(async (pool) => {
    const timeline = await readTimeline(pool)
    if (timeline === null) throw new Error('is a standby')
    writable.push({ pool, timeline })
  })
  try {
    await Promise.any(asked)
  } catch (cause) {
    throw new ConfigurationUnavailableError('No member of the cluster that configuration is written to is writable', { cause })
  }
  await Promise.race([Promise.allSettled(asked), pause(SECOND_LEADER_WITHIN_MS)])
  return writable.reduce((newest, one) => (one.timeline > newest.timeline ? one : newest)).pool
}

/** @returns null for a standby */
async function readTimeline(pool: Pool): Promise<string | null> {
  const late = new AbortController()
  const asking = pool.query<{ timeline: string | null }>(`SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE ${TIMELINE} END AS timeline`)
  asking.catch(() => undefined)
  const tooLate = pause(LIMITS.configMemberMs, undefined, { signal: late.signal, ref: false }).then(() => {
    throw new Error('has not answered in time')
  })
  try {
    const { rows } = await Promise.race([asking, tooLate])
    return rows[0]!.timeline
  } finally {
    tooLate.catch(() => undefined)
    late.abort()
  }
}

/** Begins a transaction where the clock says that changes are confirmed. A member that is gone is asked once. */
async function begin({ find, lose }: Pick<ConfigLeader, 'find' | 'lose'>): Promise<{ client: PoolClient; pool: Pool }> {
  for (let again = true; ; again = false) {
    const pool = await find()
    let client: PoolClient | undefined
    try {
      client = await pool.connect()
      await waitForClock(client)
      await client.query('BEGIN')
      await client.query(
        `SET LOCAL synchronous_commit = remote_apply; SET LOCAL lock_timeout = ${LIMITS.configStatementMs - 1000};
         SET LOCAL statement_timeout = ${LIMITS.configStatementMs - 500}`,
      )
      return { client, pool }
    } catch (error) {
      const answers = error instanceof ConfigurationUnavailableError
      client?.release(!answers)
      lose()
      if (answers || !isAway(error)) throw error
      if (!again) throw unavailable(error)
    }
  }
}

/** @throws {ConfigurationUnavailableError} where it has stood still: what is committed now would wait for a quorum that is not there */
async function waitForClock(leader: Queryable): Promise<void> {
  const untilMs = Date.now() + CLOCK_WAIT_MS
  for (;;) {
    const { rows } = await leader.query<{ goes: boolean }>(
      `SELECT at > clock_timestamp() - $1 * interval '1 ms' AS goes FROM config_clock`,
      [LIMITS.configClockStandsMs],
    )
    if (rows[0]?.goes === true) return
    if (Date.now() > untilMs) {
      throw new ConfigurationUnavailableError('Too few members of the cluster that configuration is written to confirm changes')
    }
    await pause(CLOCK_POLL_MS)
  }
}

/** @returns whether the member is gone */
async function rolledBack(client: PoolClient, error: unknown): Promise<boolean> {
  let gone = isAway(error)
  if (!gone) await client.query('ROLLBACK').catch(() => (gone = true))
  client.release(gone)
  return gone
}

/**
 * Commits. A commit that waits for standbys is not cancelled when its time is over: cancelled, it would be visible without a
 * quorum. It ends by itself, with the quorum or with the leader.
 */
async function commit(client: PoolClient, lose: () => void): Promise<void> {
  let warned = false
  const onNotice = (notice: { severity?: string | undefined }) => {
    // Somebody has cancelled its wait: it was committed at the leader alone.
    if (notice.severity === 'WARNING') warned = true
  }
  client.on('notice', onNotice)
  try {
    await client.query('COMMIT')
  } catch (cause) {
    client.release(true)
    lose()
    throw unconfirmed(cause)
  }
  client.off('notice', onNotice)
  client.release()
  if (warned) throw unconfirmed(undefined)
}

function unconfirmed(cause: unknown): ConfigurationUnconfirmedError {
  const text = 'The change was not confirmed in time: it may hold now, later or never. Read it again, or repeat the request'
  return new ConfigurationUnconfirmedError(text, { cause })
}
