import { setTimeout as pause } from 'node:timers/promises'
import type { Logger } from 'pino'
import { LIMITS } from '../domain/limits.ts'
import { lookAgainAfterMs, type PrimaryPositions, type ReplicaSight } from '../domain/replicas.ts'
import { createPool, type Pool } from './pool.ts'
import { readAppliedPosition, type LogPosition } from './replication.ts'

/** One standby that history may be read from, and what was last seen of it. */
export interface Replica extends ReplicaSight {
  /** Host and port. */
  readonly name: string
  readonly pool: Pool
  /** Why it is not read from, whatever its lag; empty where nothing speaks against it. */
  readonly problem: string
  /** Reads that it answered: counted by whoever reads. */
  reads: number
  /** A read has found it away: it is not read from until it has been looked at. */
  lost(error: unknown): void
  /**
   * Sees how far it is, unless it is being looked at or left alone. Never rejects.
   * @param primary what the primary was when it was last seen
   */
  look(primary: LogPosition, positions: PrimaryPositions, signal: AbortSignal): Promise<void>
  /** Resolves when no look is under way. */
  looked(): Promise<void>
  stop(): Promise<void>
}

/** One that is a moment behind has what was just written at the second or third look. */
const FOLLOW_EVERY_MS = 5
const NOT_SEEN = 'has not been looked at yet'

export function createReplica(url: string, { connections, log }: { connections: number; log: Logger }): Replica {
  const name = new URL(url).host
  const pool = createPool(url, connections, { statementMs: LIMITS.replicaStatementMs, connectMs: LIMITS.replicaLookTimeoutMs })
  // A read that waits for a connection says nothing of the replica: it is looked at over one of its own.
  const own = createPool(url, 1, { statementMs: LIMITS.replicaLookTimeoutMs, connectMs: LIMITS.replicaLookTimeoutMs })
  const seen = { position: 0, completeUntilMs: -Infinity, problem: NOT_SEEN }
  let failures = 0
  let restsUntilMs = 0
  let looking: Promise<void> | undefined

  const away = (problem: string): void => {
    if (seen.problem !== problem) log.warn({ replica: name, problem }, 'replica.away')
    Object.assign(seen, { completeUntilMs: -Infinity, problem })
    failures++
    restsUntilMs = performance.now() + lookAgainAfterMs(failures, LIMITS.replicaLookEveryMs, LIMITS.replicaRestMaxMs)
  }
  const note = (position: number, positions: PrimaryPositions): void => {
    if (seen.problem !== '') log.info({ replica: name }, 'replica.back')
    failures = 0
    const untilMs = positions.completeUntil(position)
    // Further behind than is remembered: what it had then it has still, unless it was made anew.
    const kept = untilMs === -Infinity && position >= seen.position ? seen.completeUntilMs : untilMs
    Object.assign(seen, { position, completeUntilMs: kept, problem: '' })
  }
  const follow = async (primary: LogPosition, positions: PrimaryPositions, signal: AbortSignal): Promise<void> => {
    const untilMs = performance.now() + LIMITS.replicaWaitMs
    const aim = positions.latest?.position ?? 0
    for (;;) {
      const applied = await readAppliedPosition(own)
      const problem = problemOf(applied, primary)
      if (problem !== '' || applied.position === null) return away(problem)
      note(applied.position, positions)
      if (applied.position >= aim || performance.now() > untilMs || signal.aborted) return
      await pause(FOLLOW_EVERY_MS)
    }
  }
  return {
    name,
    pool,
    reads: 0,
    get position() {
      return seen.position
    },
    get completeUntilMs() {
      return seen.completeUntilMs
    },
    get problem() {
      return seen.problem
    },
    lost(error) {
      // Many reads may find it at once.
      if (seen.problem === '') away(reasonOf(error))
    },
    look(primary, positions, signal) {
      if (looking !== undefined) return looking
      if (performance.now() < restsUntilMs) return Promise.resolve()
      looking = follow(primary, positions, signal)
        .catch((error: unknown) => away(reasonOf(error)))
        .finally(() => (looking = undefined))
      return looking
    },
    looked: () => looking ?? Promise.resolve(),
    async stop() {
      await Promise.all([pool.end(), own.end()])
    },
  }
}

function problemOf(applied: LogPosition, primary: LogPosition): string {
  if (applied.position === null) return 'is no standby'
  if (applied.system !== primary.system) return 'is a standby of another cluster'
  if (applied.timeline !== null && applied.timeline !== primary.timeline) return 'follows another timeline than the primary'
  return ''
}

function reasonOf(error: unknown): string {
  if (error instanceof AggregateError) return reasonOf(error.errors[0])
  return error instanceof Error && error.message !== '' ? error.message.split('\n')[0]! : 'no answer'
}
