import type { OpenWorkflows } from '../../activities/reconcile.ts'
import { lowestIdAt, newId } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import { notifyOutbox } from '../../storage/outbox.ts'
import type { Pool } from '../../storage/pool.ts'
import { acceptReturned, readUnreplicated, type Unreplicated } from '../../storage/unreplicated.ts'
import type { Progress } from '../progress.ts'

export interface UnreplicatedReport {
  /** Messages of the lost primary that were compared. */
  readonly compared: number
  /** Accepted there, and not known to the new one: in the order of their acceptance. */
  readonly missing: readonly { readonly messageId: string; readonly appId: string; readonly acceptedAt: string }[]
  /** Not accepted here: their `eventId` was published again after the failover. */
  readonly known: readonly string[]
  /** Not accepted here: their application has been erased since. */
  readonly gone: number
  /** Messages that were accepted by the new primary now. */
  readonly accepted: number
  /** Deliveries of them that were put into its outbox. */
  readonly put: number
  /** Messages of them that an open fan-out carries, which goes on by itself. */
  readonly carried: number
}

export interface UnreplicatedRequest {
  readonly old: Pool
  readonly current: Pool
  readonly sinceMs: number
  /** Set: accepts what is missing, asking Temporal what is open. */
  readonly deliver?: OpenWorkflows | undefined
}

const SAY_EVERY = 100_000

/** Compares the messages of a lost primary that has returned with those of the one that took its place. */
export async function compareUnreplicated(request: UnreplicatedRequest, { say }: Progress): Promise<UnreplicatedReport> {
  const { old, current, deliver } = request
  const found: Unreplicated[] = []
  let compared = 0
  let afterId = lowestIdAt('msg', request.sinceMs)
  for (;;) {
    const page = await readUnreplicated(old, current, afterId)
    if (page.lastId === undefined) break
    if (Math.floor((compared + page.compared) / SAY_EVERY) > Math.floor(compared / SAY_EVERY)) say(`${compared} messages compared`)
    compared += page.compared
    found.push(...page.found)
    afterId = page.lastId
  }
  const missing = found.filter((one) => one.state === 'missing')
  say(`${compared} messages compared, ${missing.length} are missing`)
  const done = deliver === undefined ? { accepted: 0, put: 0, carried: 0 } : await acceptAll(request, deliver, missing)
  return {
    compared,
    missing: missing.map(({ messageId, appId, acceptedAt }) => ({ messageId, appId, acceptedAt: acceptedAt.toISOString() })),
    known: found.filter((one) => one.state === 'known').map((one) => one.messageId),
    gone: found.filter((one) => one.state === 'gone').length,
    ...done,
  }
}

async function acceptAll({ old, current }: UnreplicatedRequest, openWorkflows: OpenWorkflows, missing: readonly Unreplicated[]) {
  const request = newId('out')
  const done = { accepted: 0, put: 0, carried: 0 }
  for (let from = 0; from < missing.length; from += LIMITS.unreplicatedAccepted) {
    const ids = missing.slice(from, from + LIMITS.unreplicatedAccepted).map((one) => one.messageId)
    const carried = await openWorkflows.carrying(ids)
    const { accepted, put } = await acceptReturned(old, current, ids, { carried, request })
    done.accepted += accepted
    done.put += put
    done.carried += ids.filter((id) => carried.has(id)).length
  }
  if (done.put > 0) await notifyOutbox(current)
  return done
}
