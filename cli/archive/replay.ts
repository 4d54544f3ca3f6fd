import { setTimeout as pause } from 'node:timers/promises'
import { lowestIdAt } from '../../domain/ids.ts'
import { ArchiveError } from '../../storage/archive/object-store.ts'
import { PUT_BACK_STATES, putBack, type PutBackState } from '../../storage/archive/put-back.ts'
import { findReplayApplications, listReplayEndpoints, restoredApplications } from '../../storage/archive/replay-targets.ts'
import { refuseStrangers } from '../../storage/archive/rows.ts'
import type { Pool } from '../../storage/pool.ts'
import { CommandFailure } from '../failure.ts'

export interface ReplayOptions {
  readonly schema: string
  /** `app_…`, or `app_…=<id or uid>` where another application gets them; none: every application, under its own id. */
  readonly applications: readonly string[]
  /** Ids or uids; none: every endpoint that takes deliveries. */
  readonly endpoints: readonly string[]
  readonly fromMs: number | undefined
  readonly toMs: number | undefined
  /** Deliveries a second. */
  readonly rate: number
  readonly keepMs: number
  readonly dryRun: boolean
  /** Of this region; null: of none. */
  readonly zone: string | null
}

export interface ReplayedApplication {
  /** In the archive, and here. */
  readonly from: string
  readonly to: string
  readonly messages: Readonly<Record<PutBackState, number>>
  /** Put into the outbox, by endpoint. */
  readonly deliveries: Readonly<Record<string, number>>
}

const MESSAGES_PER_PAGE = 100

/**
 * Puts restored messages back into the service, and their deliveries into its outbox.
 * @param say told after each page
 * @throws {CommandFailure} before anything is written: for a schema, an application or an endpoint that is not there
 */
export async function replayRestored(
  pool: Pool,
  options: ReplayOptions,
  say: (describe: () => string) => void,
): Promise<ReplayedApplication[]> {
  const replayed: ReplayedApplication[] = []
  for (const target of await targetsOf(pool, options)) replayed.push(await replayOne(pool, options, target, say))
  return replayed
}

async function replayOne(
  pool: Pool,
  { schema, fromMs, toMs, keepMs, rate, dryRun }: ReplayOptions,
  { from, to, endpointIds }: Target,
  say: (describe: () => string) => void,
): Promise<ReplayedApplication> {
  const messages = Object.fromEntries(PUT_BACK_STATES.map((state) => [state, 0])) as Record<PutBackState, number>
  const deliveries: Record<string, number> = Object.fromEntries(endpointIds.map((id) => [id, 0]))
  const bound = (ms: number | undefined) => (ms === undefined ? undefined : lowestIdAt('msg', ms))
  const range = { fromId: bound(fromMs), toId: bound(toMs), limit: Math.min(MESSAGES_PER_PAGE, rate) }
  for await (const page of putBack({ pool, schema, from, to, endpointIds, ...range, keepMs, dryRun })) {
    for (const state of PUT_BACK_STATES) messages[state] += page.messages[state]
    for (const [id, count] of page.deliveries) deliveries[id]! += count
    say(() => `${from}: ${sum(messages)} messages looked at, ${sum(deliveries)} deliveries, as far as ${page.lastId}`)
    const more = [...page.deliveries.values()].reduce((all, one) => all + one, 0)
    if (!dryRun && more > 0) await pause((more / rate) * 1000)
  }
  return { from, to, messages, deliveries }
}

const sum = (counts: Readonly<Record<string, number>>) => Object.values(counts).reduce((all, one) => all + one, 0)

interface Target {
  readonly from: string
  readonly to: string
  readonly endpointIds: readonly string[]
}

async function targetsOf(pool: Pool, { schema, applications, endpoints, zone }: ReplayOptions): Promise<Target[]> {
  const restored = await restoredApplications(pool, schema)
  if (restored === undefined) throw refused(`there are no messages in the schema ${schema}: restore them first, with the same --name`)
  const chosen = applications.length === 0 ? restored.map((appId) => ({ from: appId, name: appId })) : applications.map(chosenOf)
  if (endpoints.length > 0 && applications.length !== 1) throw refused('--endpoint is of one application: name it with --app')
  const targets: Target[] = []
  for (const { from, name } of chosen) {
    if (!restored.includes(from)) throw refused(`the schema ${schema} has no message of ${from}`)
    const to = await applicationOf(pool, from, name)
    targets.push({ from, to, endpointIds: await endpointsOf(pool, to, endpoints) })
  }
  try {
    await refuseStrangers(
      pool,
      targets.map(({ to }) => to),
      zone,
    )
  } catch (error) {
    if (error instanceof ArchiveError) throw refused('an application belongs to the zone of another region: replay it there', error)
    throw error
  }
  return targets
}

function chosenOf(text: string): { readonly from: string; readonly name: string } {
  const at = text.indexOf('=')
  return at < 0 ? { from: text, name: text } : { from: text.slice(0, at), name: text.slice(at + 1) }
}

async function applicationOf(pool: Pool, from: string, name: string): Promise<string> {
  const [found, ...others] = await findReplayApplications(pool, name)
  if (found === undefined) {
    const mend = from === name ? `make one and name it with --app ${from}=<id or uid>` : 'its id or its uid is needed'
    throw refused(`there is no application ${name} here: ${mend}`)
  }
  if (others.length > 0) throw refused(`${others.length + 1} organisations have an application with the uid ${name}: name it by its id`)
  return found.id
}

async function endpointsOf(pool: Pool, appId: string, names: readonly string[]): Promise<string[]> {
  const all = await listReplayEndpoints(pool, appId)
  if (names.length === 0) {
    const enabled = all.filter(({ disabled }) => !disabled)
    if (enabled.length === 0) throw refused(`the application ${appId} has no endpoint that takes deliveries`)
    return enabled.map(({ id }) => id)
  }
  return names.map((name) => {
    const found = all.find(({ id }) => id === name) ?? all.find(({ uid }) => uid === name)
    if (found === undefined) throw refused(`the application ${appId} has no endpoint ${name}`)
    if (found.disabled) throw refused(`the endpoint ${name} of ${appId} is disabled: enable it first`)
    return found.id
  })
}

function refused(message: string, cause?: unknown): CommandFailure {
  return new CommandFailure('replay_refused', message, { cause })
}
