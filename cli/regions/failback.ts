import type { OpenWorkflows } from '../../activities/reconcile.ts'
import { createPool } from '../../storage/pool.ts'
import { readDatabaseServer, type DatabaseServer } from '../../storage/takeover.ts'
import { CommandFailure, reasonOf } from '../failure.ts'
import { silentProgress, type Progress } from '../progress.ts'
import { fence } from './fence.ts'
import { compareUnreplicated, type UnreplicatedReport } from './unreplicated.ts'

export interface FailbackRequest {
  /** `postgres://` of the lost primary that has returned, with a user that may make it read-only. */
  readonly oldUrl: string
  /** `postgres://` of the primary that has taken its place. */
  readonly newUrl: string
  /** What was accepted since then is compared. */
  readonly sinceMs: number
  /** Of the namespace, at the cluster where it is active. */
  readonly openWorkflows: OpenWorkflows
  readonly progress?: Progress
}

/**
 * The first step home: makes a lost primary that has returned read-only, and delivers what it alone had accepted. After
 * it, nothing is needed of the old data directory. Repeating it has no effect.
 * @throws {CommandFailure} `failover_refused` where the two are not what they should be, `postgres_failed`
 */
export async function deliverUnreplicated(request: FailbackRequest): Promise<UnreplicatedReport> {
  const { oldUrl, newUrl, sinceMs, openWorkflows, progress = silentProgress } = request
  const old = createPool(oldUrl, 1)
  const current = createPool(newUrl, 3)
  try {
    const [lost, present] = await Promise.all([look(oldUrl, old), look(newUrl, current)])
    requireBranches(lost, present)
    if (!lost.isFenced) await progress.step('making the old primary read-only', () => fence(old))
    return await compareUnreplicated({ old, current, sinceMs, deliver: openWorkflows }, progress)
  } finally {
    await Promise.all([old.end(), current.end()])
  }
}

async function look(url: string, pool: ReturnType<typeof createPool>): Promise<DatabaseServer> {
  try {
    return await readDatabaseServer(pool)
  } catch (cause) {
    throw new CommandFailure('postgres_failed', `Postgres at ${new URL(url).host} does not answer as it should: ${reasonOf(cause)}`, {
      cause,
    })
  }
}

/** Of one cluster, and the new one was promoted after the old one: whoever mixes them up would deliver backwards. */
function requireBranches(lost: DatabaseServer, present: DatabaseServer): void {
  const refuse = (why: string): never => {
    throw new CommandFailure('failover_refused', why)
  }
  if (lost.systemId !== present.systemId)
    refuse('--old and --new are of different clusters: the new one must have been a standby of the old')
  if (lost.timeline === undefined) refuse('--old is a standby: it has nothing that its primary has not')
  if (present.timeline === undefined) refuse('--new is a standby: promote it first')
  if (present.timeline! <= lost.timeline!) refuse('--new was not promoted after --old: are they the other way round?')
}
