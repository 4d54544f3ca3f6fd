/** Read replicas: standbys of the primary that history is read from. Design: docs/replicas.md, docs/adr/0031. */
import { setTimeout as pause } from 'node:timers/promises'
import type { Logger } from 'pino'
import { LIMITS } from '../domain/limits.ts'
import { chooseReplica, createPrimaryPositions, createRecentWrites, type PrimaryPositions, type RecentWrites } from '../domain/replicas.ts'
import { isPassingFault } from './faults.ts'
import type { HistoryReads } from './history/reads.ts'
import { createPool, type Pool, type Queryable } from './pool.ts'
import { createReplica, type Replica } from './replica.ts'
import { readWrittenPosition, type LogPosition } from './replication.ts'

/** Why a read went to the primary: no replica was fresh enough, none answered, it failed there, or what it asked for was not there. */
export const FALLBACKS = ['behind', 'away', 'failed', 'missing'] as const
export type Fallback = (typeof FALLBACKS)[number]

export interface ReplicaStatus {
  readonly name: string
  /** Whether reads go there, as far as the lag is concerned that every read bears. */
  readonly usable: boolean
  /** Why it does not answer as a replica of this primary; empty where it does. */
  readonly problem: string
  /** How old what it has may be; Infinity where that is not known. */
  readonly lagMs: number
  /** Written by the primary and not applied, as last seen; Infinity where that is not known. */
  readonly lagBytes: number
  /** Reads that it answered. */
  readonly reads: number
}

export interface Replicas extends HistoryReads {
  readonly position: () => Promise<number>
  status(): readonly ReplicaStatus[]
  /** Reads that the primary answered, and why. */
  counts(): { readonly primary: number; readonly fallbacks: Readonly<Record<Fallback, number>> }
  stop(): Promise<void>
}

export interface ReplicasOptions {
  /** The primary, for reads that no replica can answer. */
  readonly pool: Pool
  readonly primaryUrl: string
  /** At least one. */
  readonly urls: readonly string[]
  readonly maxLagMs: number
  /** Connections of this process to each replica. */
  readonly connections: number
  readonly log: Logger
}

/** A replica is worth waiting for where it was no further behind than this when it was last looked at. */
const NEAR_MS = 2000
/** At least between two looks. */
const LOOK_APART_MS = 20

/** Starts to look after replicas. Until the first look is over all reads go to the primary. */
export function createReplicas(options: ReplicasOptions): Replicas {
  const { pool, urls, maxLagMs, log } = options
  // What is measured may not wait for a connection behind what is served.
  const primary = createPool(options.primaryUrl, 1, { statementMs: LIMITS.replicaLookTimeoutMs, connectMs: LIMITS.replicaLookTimeoutMs })
  const replicas = urls.map((url) => createReplica(url, { connections: options.connections, log }))
  const positions = createPrimaryPositions()
  const writes = createRecentWrites(LIMITS.replicaWritesKept)
  const looks = keepLooking({ primary, replicas, positions, writes, maxLagMs, log })
  const fallbacks: Record<Fallback, number> = { behind: 0, away: 0, failed: 0, missing: 0 }
  let atPrimary = 0

  const find = async (appId: string, position: number): Promise<Replica | undefined> => {
    const nowMs = performance.now()
    const needs = { completeUntilMs: Math.max(nowMs - maxLagMs, writes.lastWrite(appId)), position }
    const known = chooseReplica(replicas, appId, needs)
    if (known !== undefined || !replicas.some((one) => one.completeUntilMs >= nowMs - Math.min(NEAR_MS, maxLagMs))) return known
    await looks.after(() => chooseReplica(replicas, appId, needs) !== undefined)
    return chooseReplica(replicas, appId, needs)
  }
  const fallBack = <T>(reason: Fallback, work: (db: Queryable) => Promise<T>): Promise<T> => {
    fallbacks[reason]++
    atPrimary++
    return work(pool)
  }
  return {
    async read(appId, work, { position = 0, again } = {}) {
      const replica = await find(appId, position)
      if (replica === undefined) return fallBack(replicas.every((one) => one.problem !== '') ? 'away' : 'behind', work)
      try {
        const result = await work(replica.pool)
        replica.reads++
        return result
      } catch (error) {
        if (again?.(error) === true) return fallBack('missing', work)
        if (!isReplicasFault(error)) throw error
        if (isLost(error)) replica.lost(error)
        return fallBack('failed', work)
      }
    },
    wrote: (appId) => writes.wrote(appId, performance.now()),
    position: async () => (await readWrittenPosition(pool)).position,
    status: () => replicas.map((one) => statusOf(one, positions, maxLagMs)),
    counts: () => ({ primary: atPrimary, fallbacks }),
    async stop() {
      await looks.stop()
      await Promise.all([primary.end(), ...replicas.map((one) => one.stop())])
    },
  }
}

function statusOf(replica: Replica, positions: PrimaryPositions, maxLagMs: number): ReplicaStatus {
  const { name, problem, position, completeUntilMs, reads } = replica
  const lagMs = performance.now() - completeUntilMs
  const { latest } = positions
  const lagBytes = problem !== '' || latest === undefined ? Infinity : Math.max(0, latest.position - position)
  return { name, problem, lagMs, lagBytes, reads, usable: lagMs <= maxLagMs }
}

// What a standby cancels because it has to apply what removes the rows that are read.
const CANCELLED_BY_RECOVERY = '40001'
const QUERY_CANCELLED = '57014'
const TIMED_OUT = /query read timeout/i

const codeOf = (error: unknown): string => (error instanceof Error && 'code' in error ? String(error.code) : '')

/** Whether the primary may do what a replica has failed at. A replica may lack a table or column that a migration has just made. */
function isReplicasFault(error: unknown): boolean {
  return isPassingFault(error) || /^42[0-9A-Z]{3}$/.test(codeOf(error)) || (error instanceof Error && TIMED_OUT.test(error.message))
}

/**
 * Whether others need not try until it has been looked at. What took too long may be the read's own fault, or that of a full
 * pool: looks tell within seconds.
 */
function isLost(error: unknown): boolean {
  const code = codeOf(error)
  if (error instanceof Error && /timeout/i.test(error.message)) return false
  return code !== CANCELLED_BY_RECOVERY && code !== QUERY_CANCELLED && !/^(42|53)/.test(code)
}

interface Looked {
  readonly primary: Pool
  readonly replicas: readonly Replica[]
  readonly positions: PrimaryPositions
  readonly writes: RecentWrites
  readonly maxLagMs: number
  readonly log: Logger
}

/** Looks at the primary and its replicas again and again, and in between where a read waits for it. */
function keepLooking({ primary, replicas, positions, writes, maxLagMs, log }: Looked) {
  const stopped = new AbortController()
  const { signal } = stopped
  let now: LogPosition | undefined
  const sample = async (): Promise<void> => {
    const atMs = performance.now()
    const seen = await readWrittenPosition(primary)
    // Positions of another timeline say nothing of this one.
    if (now?.timeline !== seen.timeline) positions.clear()
    now = seen
    positions.add({ atMs, position: seen.position })
  }
  const look = async (): Promise<void> => {
    try {
      await sample()
    } catch (error) {
      log.debug({ err: error }, 'replicas.primary-not-read')
    }
    writes.forgetBefore(performance.now() - maxLagMs)
    const seen = now
    if (seen === undefined) return
    // One that hangs holds nobody up.
    const looked = Promise.all(replicas.map((one) => one.look(seen, positions, signal)))
    await Promise.race([looked, pause(LIMITS.replicaWaitMs, undefined, { ref: false })])
  }
  let running: Promise<void> = Promise.resolve()
  let next: Promise<void> | undefined
  const lookFromNow = (): Promise<void> => {
    next ??= Promise.all([running, pause(LOOK_APART_MS, undefined, { ref: false })]).then(() => {
      next = undefined
      running = signal.aborted ? Promise.resolve() : look()
      return running
    })
    return next
  }
  const run = async () => {
    while (!signal.aborted) {
      await lookFromNow()
      await pause(LIMITS.replicaLookEveryMs, undefined, { signal }).catch(() => undefined)
    }
  }
  const looking = run()
  return {
    /** Waits for a look that begins from now on, `replicaWaitMs` at most, or until there is what is waited for. */
    async after(isThere: () => boolean): Promise<void> {
      const late = pause(LIMITS.replicaWaitMs, 'late', { ref: false })
      for (;;) {
        const seen = await Promise.race([lookFromNow(), late])
        if (seen === 'late' || isThere()) return
      }
    },
    async stop(): Promise<void> {
      stopped.abort()
      await looking
      await next
      await running
      await Promise.all(replicas.map((one) => one.looked()))
    },
  }
}
