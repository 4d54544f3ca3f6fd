import type { Progress } from '../progress.ts'
import { RestError } from '../rest.ts'
import type { SvixApi } from './client.ts'
import {
  applicationOf,
  differences,
  endpointOf,
  eventTypeOf,
  type SourceApplication,
  type SourceEndpoint,
  type SourceEventType,
  type SourceHeaders,
} from './shapes.ts'

export const KINDS = ['event types', 'applications', 'endpoints'] as const
export type Kind = (typeof KINDS)[number]
export type Outcome = 'copied' | 'changed' | 'unchanged' | 'failed'
export type Tally = Record<Kind, Record<Outcome, number>>

export interface ImportResult {
  readonly tally: Tally
  /** What was not copied, and why. */
  readonly problems: readonly string[]
  /** What its owner has to do by hand. */
  readonly notes: readonly string[]
}

interface Import {
  readonly source: SvixApi
  readonly target: SvixApi
  readonly dryRun: boolean
  readonly tally: Tally
  readonly problems: string[]
  readonly notes: string[]
  /** Event types that are live at the target. */
  readonly live: Set<string>
  /** Event types to archive at the end: an endpoint can only be given live ones. */
  readonly toArchive: Set<string>
}

/**
 * Copies event types, applications and endpoints with their secrets and headers. What is there already, by name or uid, is
 * brought to the source's state; what the target has besides is left alone. So it can be run again, and goes on where it was stopped.
 */
export async function copyAll(source: SvixApi, target: SvixApi, options: { dryRun: boolean; progress: Progress }): Promise<ImportResult> {
  const none = () => ({ copied: 0, changed: 0, unchanged: 0, failed: 0 })
  const tally: Tally = { 'event types': none(), applications: none(), endpoints: none() }
  const run: Import = { source, target, dryRun: options.dryRun, tally, problems: [], notes: [], live: new Set(), toArchive: new Set() }
  const { step } = options.progress
  await step('copying event types', async () => {
    for await (const type of source.list<SourceEventType>('/event-type?with_content=true&include_archived=true')) {
      await counted(run, 'event types', `event type ${type.name}`, () => copyEventType(run, type))
    }
  })
  await step('copying applications and their endpoints', async () => {
    for await (const application of source.list<SourceApplication>('/app')) await copyApplication(run, application)
    for (const name of run.toArchive) await write(run, 'DELETE', `/event-type/${encodeURIComponent(name)}`)
  })
  return run
}

/** Counts what became of one object; what the service refuses of it is told, and the rest goes on. */
async function counted(run: Import, kind: Kind, name: string, work: () => Promise<Outcome>): Promise<Outcome> {
  let outcome: Outcome = 'failed'
  try {
    outcome = await work()
  } catch (error) {
    if (!(error instanceof RestError)) throw error
    run.problems.push(`${name}: ${error.message}`)
  }
  run.tally[kind][outcome]++
  return outcome
}

async function write(run: Import, method: string, path: string, body?: unknown): Promise<void> {
  if (!run.dryRun) await run.target.request(method, path, body)
}

async function copyEventType(run: Import, type: SourceEventType): Promise<Outcome> {
  const wanted = eventTypeOf(type)
  const path = `/event-type/${encodeURIComponent(type.name)}`
  const current = await run.target.find<SourceEventType>(path)
  if (!wanted.archived) run.live.add(type.name)
  if (current === undefined) {
    await write(run, 'POST', '/event-type', wanted)
    return 'copied'
  }
  const changes = differences(wanted, eventTypeOf(current))
  if (Object.keys(changes).length === 0) return 'unchanged'
  await write(run, 'PATCH', path, changes)
  return 'changed'
}

async function copyApplication(run: Import, application: SourceApplication): Promise<void> {
  const wanted = applicationOf(application)
  const path = `/app/${encodeURIComponent(wanted.uid)}`
  const name = `application ${application.id}`
  let isNew = false
  const outcome = await counted(run, 'applications', name, async () => {
    const current = await run.target.find<SourceApplication>(path)
    isNew = current === undefined
    if (current === undefined) {
      await write(run, 'POST', '/app', wanted)
      return 'copied'
    }
    const changes = differences(wanted, applicationOf(current))
    if (Object.keys(changes).length === 0) return 'unchanged'
    await write(run, 'PATCH', path, changes)
    return 'changed'
  })
  if (outcome === 'failed') return
  for await (const endpoint of run.source.list<SourceEndpoint>(`/app/${application.id}/endpoint?order=ascending`)) {
    const place = {
      from: `/app/${application.id}/endpoint/${endpoint.id}`,
      to: `${path}/endpoint`,
      name: `endpoint ${endpoint.id} of ${name}`,
    }
    await counted(run, 'endpoints', place.name, () => copyEndpoint(run, endpoint, { ...place, isNew }))
  }
}

interface Place {
  /** The endpoint at the source. */
  readonly from: string
  /** The list of endpoints at the target. */
  readonly to: string
  readonly name: string
  /** The application is new, so the endpoint is too. */
  readonly isNew: boolean
}

async function copyEndpoint(run: Import, endpoint: SourceEndpoint, place: Place): Promise<Outcome> {
  const wanted = endpointOf(endpoint)
  const path = `${place.to}/${encodeURIComponent(wanted.uid)}`
  const [{ key }, { headers, sensitive }] = [
    await run.source.request<{ key: string }>('GET', `${place.from}/secret`),
    await run.source.request<SourceHeaders>('GET', `${place.from}/headers`),
  ]
  const secret = copyableSecret(key)
  const current = place.isNew ? undefined : await run.target.find<SourceEndpoint>(path)
  if (current === undefined) {
    await makeLive(run, wanted.eventTypes ?? [])
    await write(run, 'POST', place.to, { ...wanted, headers, ...(secret === undefined ? {} : { secret }) })
    if (secret === undefined) run.notes.push(`${place.name} signs with a key that cannot be read: it has a new secret`)
    if (sensitive.length > 0) run.notes.push(`${place.name}: the values of ${sensitive.join(', ')} cannot be read; set these headers again`)
    return 'copied'
  }
  const changes = differences(wanted, endpointOf(current))
  const count = Object.keys(changes).length
  if (changes.eventTypes) await makeLive(run, changes.eventTypes)
  if (count > 0) await write(run, 'PATCH', path, changes)
  const rotated = await copySecret(run, path, secret)
  const reset = await copyHeaders(run, path, headers)
  return count > 0 || rotated || reset ? 'changed' : 'unchanged'
}

/** Of an asymmetric key the source shows the public half alone; keys of old servers have no prefix. */
function copyableSecret(key: string): string | undefined {
  if (key.startsWith('whpk_')) return undefined
  return key.startsWith('whsec_') || key.startsWith('whsk_') ? key : `whsec_${key}`
}

async function copySecret(run: Import, path: string, secret: string | undefined): Promise<boolean> {
  if (secret === undefined) return false
  const { key } = await run.target.request<{ key: string }>('GET', `${path}/secret`)
  if (key === secret) return false
  await write(run, 'POST', `${path}/secret/rotate`, { key: secret })
  return true
}

async function copyHeaders(run: Import, path: string, wanted: Readonly<Record<string, string>>): Promise<boolean> {
  const { headers: current } = await run.target.request<SourceHeaders>('GET', `${path}/headers`)
  const gone = Object.keys(current).filter((name) => !(name in wanted))
  const changes = { ...differences(wanted, current), ...Object.fromEntries(gone.map((name) => [name, null])) }
  if (Object.keys(changes).length === 0) return false
  await write(run, 'PATCH', `${path}/headers`, { headers: changes })
  return true
}

/** An endpoint may be subscribed to event types that were archived, or removed, after it was made. */
async function makeLive(run: Import, names: readonly string[]): Promise<void> {
  for (const name of names) {
    if (run.live.has(name)) continue
    const path = `/event-type/${encodeURIComponent(name)}`
    if ((await run.target.find(path)) === undefined) await write(run, 'POST', '/event-type', { name, description: '' })
    else await write(run, 'PATCH', path, { archived: false })
    run.live.add(name)
    run.toArchive.add(name)
  }
}
