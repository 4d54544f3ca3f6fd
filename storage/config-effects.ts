import type { PoolClient } from 'pg'
import { insertTask, type NewBackgroundTask, type TaskRequest } from './background-tasks.ts'
import { beginAnew, forceClose, forgetDisabled } from './endpoint-state.ts'
import { makeQueueDue } from './mailbox-queue.ts'
import { tellOfEndpoint, type EndpointEvent } from './operational-events.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'

/** Channel on which processes of a region hear that effects wait to be done; without a payload. */
export const CONFIG_EFFECT_CHANNEL = 'tidings_config_effect'

/** What a change of configuration leads to in message data. */
export type ConfigEffect =
  /** Told to operational endpoints by the region that made the change, and by no other. */
  | { readonly kind: 'told'; readonly event: EndpointEvent }
  /** It has another URL: all that was learnt of it is forgotten. `rate`: what its recovery begins with, requests a second. */
  | { readonly kind: 'endpoint-anew'; readonly endpointId: string; readonly rate: number }
  /** Its owner says that it works. */
  | { readonly kind: 'breaker-closed'; readonly endpointId: string; readonly rate: number }
  /** It is served in another way: its mailbox looks at what waits. */
  | { readonly kind: 'queue-due'; readonly endpointId: string }
  | { readonly kind: 'endpoint-disabled'; readonly endpointId: string }
  /** Its data is deleted in the background. */
  | { readonly kind: 'application-erased'; readonly task: NewBackgroundTask }

/** What is left to do for whoever has committed effects; a sweep does it where nobody does. */
export interface FollowUps {
  /** Endpoints whose mailbox is to look at what it holds. */
  readonly wakes: readonly string[]
  /** Tasks whose workflow is to be started. */
  readonly tasks: readonly TaskRequest[]
}

export const NOTHING_FOLLOWS: FollowUps = { wakes: [], tasks: [] }

export interface Effected extends FollowUps {
  /** False: there was nothing to do. */
  readonly done: boolean
}

/** Does what a change leads to, in the caller's transaction. */
export async function doEffect(client: Queryable, effect: ConfigEffect): Promise<Effected> {
  const waking = (endpointId: string, done: boolean): Effected => ({ done, wakes: done ? [endpointId] : [], tasks: [] })
  switch (effect.kind) {
    case 'told':
      await tellOfEndpoint(client, effect.event)
      return { done: true, ...NOTHING_FOLLOWS }
    case 'endpoint-anew':
      return waking(effect.endpointId, await beginAnew(client, effect.endpointId, effect.rate))
    case 'breaker-closed':
      return waking(effect.endpointId, await forceClose(client, effect.endpointId, effect.rate))
    case 'queue-due':
      return waking(effect.endpointId, await makeQueueDue(client, effect.endpointId))
    case 'endpoint-disabled':
      await forgetDisabled(client, effect.endpointId)
      return { done: true, ...NOTHING_FOLLOWS }
    case 'application-erased':
      await insertTask(client, effect.task)
      return { done: true, wakes: [], tasks: [effect.task] }
  }
}

/**
 * Leaves an effect to the regions, in the transaction of the change that leads to it. The row is gone when that commits: each
 * region gets it with the change, and queues it.
 */
export async function sendEffect(client: PoolClient, region: string, effect: ConfigEffect): Promise<void> {
  const { rows } = await client.query<{ id: number }>('INSERT INTO config_effect (region, effect) VALUES ($1, $2) RETURNING id', [
    region,
    JSON.stringify(effect),
  ])
  await client.query('DELETE FROM config_effect WHERE id = $1', [rows[0]!.id])
}

// "effects!" in ASCII, cut to 31 bits.
const LOCK_KEY = 0x65666663
const EFFECTS_PER_TRANSACTION = 100

/** What is told of an effect that cannot be done; it waits, and with it what follows of the same endpoint. */
export type OnFailure = (id: number, error: unknown) => void

interface DueRow {
  id: number
  region: string
  effect: ConfigEffect
}

/**
 * Does what has arrived in this region, in the order in which it was written, each effect once: in the transaction that takes it
 * out of the queue. One process at a time; another waits for it.
 */
export async function doDueEffects(pool: Pool, region: string, onFailure: OnFailure): Promise<FollowUps> {
  const wakes = new Set<string>()
  const tasks: TaskRequest[] = []
  for (let more = true; more;) {
    const done = await inTransaction(pool, async (client) => {
      await client.query('SELECT pg_advisory_xact_lock($1)', [LOCK_KEY])
      const { rows } = await client.query<DueRow>('SELECT id, region, effect FROM config_effect_due ORDER BY id LIMIT $1', [
        EFFECTS_PER_TRANSACTION,
      ])
      return { ...(await doSome(client, rows, region, onFailure)), read: rows.length }
    })
    for (const id of done.wakes) wakes.add(id)
    tasks.push(...done.tasks)
    more = done.read === EFFECTS_PER_TRANSACTION && done.ids.length > 0
  }
  return { wakes: [...wakes], tasks }
}

async function doSome(client: PoolClient, rows: readonly DueRow[], region: string, onFailure: OnFailure) {
  const ids: number[] = []
  const wakes: string[] = []
  const tasks: TaskRequest[] = []
  const held = new Set<string>()
  for (const { id, region: maker, effect } of rows) {
    const subject = subjectOf(effect)
    if (held.has(subject)) continue
    await client.query('SAVEPOINT effect')
    try {
      if (effect.kind !== 'told' || maker === region) {
        const effected = await doEffect(client, effect)
        wakes.push(...effected.wakes)
        tasks.push(...effected.tasks)
      }
      await client.query('RELEASE SAVEPOINT effect')
      ids.push(id)
    } catch (error) {
      await client.query('ROLLBACK TO SAVEPOINT effect')
      held.add(subject)
      onFailure(id, error)
    }
  }
  if (ids.length > 0) await client.query('DELETE FROM config_effect_due WHERE id = ANY($1::bigint[])', [ids])
  return { ids, wakes, tasks }
}

function subjectOf(effect: ConfigEffect): string {
  if (effect.kind === 'told') return effect.event.endpoint.id
  return effect.kind === 'application-erased' ? effect.task.id : effect.endpointId
}
