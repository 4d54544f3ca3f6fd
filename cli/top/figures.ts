import type { Sample } from './samples.ts'

/** What all processes served at one time. */
export interface Look {
  readonly atMs: number
  /** Those that answered. */
  readonly processes: readonly { readonly url: string; readonly samples: readonly Sample[] }[]
  /** Why others did not. */
  readonly problems: readonly string[]
}

/** What is shown. Rates are of a second, shares 0 to 1, times in seconds; null where nothing happened or nobody tells. */
export interface Figures {
  readonly at: string
  readonly overS: number
  readonly processes: number
  readonly problems: readonly string[]
  readonly accepted: number
  readonly delivered: number
  readonly dead: number
  readonly requests: number
  readonly successRate: number | null
  readonly retryRate: number | null
  readonly held: number
  readonly responseP50: number | null
  readonly responseP99: number | null
  readonly firstRequestP50: number | null
  readonly firstRequestP99: number | null
  readonly publishP99: number | null
  readonly deadLetters: number | null
  readonly queues: Readonly<Record<string, number>>
  readonly dispatcherLag: number | null
  readonly breakers: Readonly<Record<string, number>>
  /** Of each process. */
  readonly utilisation: readonly number[]
  readonly slots: Readonly<Record<string, { readonly used: number; readonly max: number }>>
  readonly statements: number
  readonly statementP99: number | null
  readonly cacheHitRate: Readonly<Record<string, number | null>>
  /** The busiest, `other` last. */
  readonly endpoints: readonly EndpointFigures[]
}

export interface EndpointFigures {
  readonly endpoint: string
  readonly requests: number
  readonly successRate: number | null
  readonly meanResponse: number | null
  readonly rateLimitHits: number
  readonly breaker: string
}

const BREAKERS = ['closed', 'recovering', 'half-open', 'open'] as const
const ASKED = new Set(['delivered', 'rejected', 'unreachable'])

type Matches = (labels: Sample['labels']) => boolean
const ALL: Matches = () => true

/** Counters as they grew from one look to the next; a process that has begun anew counts from 0. */
export function figuresOf(before: Look, now: Look): Figures {
  const overS = Math.max(0.001, (now.atMs - before.atMs) / 1000)
  const grown = growth(before, now)
  const rate = (name: string, matches: Matches = ALL) => sum(grown, name, matches) / overS
  const requests = rate('tidings_attempts_total', ({ outcome }) => ASKED.has(outcome!))
  const current = now.processes.flatMap(({ samples }) => samples)
  const gauge = (name: string, label: string) => byLabel(current, name, label, Math.max)
  const queues = gauge('tidings_queue_rows', 'queue')
  return {
    at: new Date(now.atMs).toISOString(),
    overS: round(overS),
    processes: now.processes.length,
    problems: now.problems,
    accepted: round(rate('tidings_messages_accepted_total')),
    delivered: round(rate('tidings_deliveries_total', ({ result }) => result === 'delivered')),
    dead: round(rate('tidings_dead_letters_total')),
    requests: round(requests),
    successRate: share(
      rate('tidings_attempts_total', ({ outcome }) => outcome === 'delivered'),
      requests,
    ),
    retryRate: share(rate('tidings_retries_total'), requests),
    held: round(rate('tidings_held_total')),
    responseP50: quantile(grown, 'tidings_attempt_duration_seconds', 0.5),
    responseP99: quantile(grown, 'tidings_attempt_duration_seconds', 0.99),
    firstRequestP50: quantile(grown, 'tidings_first_request_seconds', 0.5),
    firstRequestP99: quantile(grown, 'tidings_first_request_seconds', 0.99),
    publishP99: quantile(grown, 'tidings_api_request_duration_seconds', 0.99, ({ kind }) => kind === 'publish'),
    deadLetters: maxOf(current, 'tidings_dead_letters'),
    queues,
    dispatcherLag: maxOf(current, 'tidings_queue_lag_seconds', ({ queue }) => queue === 'outbox'),
    breakers: gauge('tidings_endpoints', 'state'),
    utilisation: utilisation(before, now, overS),
    slots: slotsOf(current),
    statements: round(rate('tidings_database_statement_seconds_count')),
    statementP99: quantile(grown, 'tidings_database_statement_seconds', 0.99),
    cacheHitRate: hitRates(grown),
    endpoints: endpointsOf(current, grown, overS),
  }
}

function keyOf({ name, labels }: Sample): string {
  return `${name} ${JSON.stringify(labels)}`
}

/** Of every process, sample by sample. */
function growth(before: Look, { processes }: Pick<Look, 'processes'>): Sample[] {
  const earlier = new Map(before.processes.map(({ url, samples }) => [url, new Map(samples.map((one) => [keyOf(one), one.value]))]))
  return processes.flatMap(({ url, samples }) => {
    const known = earlier.get(url)
    return samples.map((one) => {
      const value = one.value - (known?.get(keyOf(one)) ?? 0)
      return { ...one, value: value < 0 ? one.value : value }
    })
  })
}

function sum(samples: readonly Sample[], name: string, matches: Matches = ALL): number {
  return samples.reduce((total, one) => (one.name === name && matches(one.labels) ? total + one.value : total), 0)
}

function maxOf(samples: readonly Sample[], name: string, matches: Matches = ALL): number | null {
  const found = samples.filter((one) => one.name === name && matches(one.labels))
  return found.length === 0 ? null : round(Math.max(...found.map(({ value }) => value)))
}

function byLabel(samples: readonly Sample[], name: string, label: string, join: (a: number, b: number) => number): Record<string, number> {
  const found: Record<string, number> = {}
  for (const { labels, value } of samples.filter((one) => one.name === name)) {
    const key = labels[label] ?? ''
    found[key] = found[key] === undefined ? value : join(found[key], value)
  }
  return found
}

/** As Prometheus does it: within a bucket evenly. */
function quantile(grown: readonly Sample[], name: string, share: number, matches: Matches = ALL): number | null {
  const counts = new Map<number, number>()
  for (const one of grown) {
    if (one.name !== `${name}_bucket` || !matches(one.labels)) continue
    const bound = one.labels['le'] === '+Inf' ? Infinity : Number(one.labels['le'])
    counts.set(bound, (counts.get(bound) ?? 0) + one.value)
  }
  const buckets = [...counts].sort(([a], [b]) => a - b)
  const total = buckets.at(-1)?.[1] ?? 0
  if (total === 0) return null
  let [low, below] = [0, 0]
  for (const [bound, count] of buckets) {
    if (count >= share * total)
      return bound === Infinity ? low : round(low + ((bound - low) * (share * total - below)) / (count - below || 1))
    ;[low, below] = [bound, count]
  }
  return low
}

function utilisation(before: Look, now: Look, overS: number): number[] {
  const grown = now.processes.map((one) => growth(before, { processes: [one] }))
  return grown.map((samples) => round(Math.min(1, sum(samples, 'tidings_event_loop_busy_seconds_total') / overS)))
}

function slotsOf(current: readonly Sample[]): Figures['slots'] {
  const add = (a: number, b: number) => a + b
  const used = byLabel(current, 'tidings_request_slots_used', 'lane', add)
  const max = byLabel(current, 'tidings_request_slots', 'lane', add)
  return Object.fromEntries(Object.entries(max).map(([lane, places]) => [lane, { used: used[lane] ?? 0, max: places }]))
}

function hitRates(grown: readonly Sample[]): Figures['cacheHitRate'] {
  const name = 'tidings_cache_requests_total'
  const caches = [...new Set(grown.filter((one) => one.name === name).map(({ labels }) => labels['cache']!))]
  return Object.fromEntries(
    caches.map((cache) => {
      const hits = sum(grown, name, (labels) => labels['cache'] === cache && labels['result'] === 'hit')
      const misses = sum(grown, name, (labels) => labels['cache'] === cache && labels['result'] === 'miss')
      return [cache, share(hits, hits + misses)]
    }),
  )
}

function endpointsOf(current: readonly Sample[], grown: readonly Sample[], overS: number): EndpointFigures[] {
  const attempts = byLabel(grown, 'tidings_endpoint_attempts_total', 'endpoint', (a, b) => a + b)
  const breakers = byLabel(current, 'tidings_endpoint_breaker', 'endpoint', Math.max)
  const figures = Object.entries(attempts).map(([endpoint, count]) => {
    const of = (name: string, more: Matches = ALL) => sum(grown, name, (labels) => labels['endpoint'] === endpoint && more(labels))
    return {
      endpoint,
      requests: round(count / overS),
      successRate: share(
        of('tidings_endpoint_attempts_total', ({ result }) => result === 'success'),
        count,
      ),
      meanResponse: share(of('tidings_endpoint_duration_seconds_total'), of('tidings_endpoint_answers_total')),
      rateLimitHits: round(of('tidings_endpoint_rate_limit_hits_total') / overS),
      breaker: BREAKERS[breakers[endpoint] ?? 0] ?? '',
    }
  })
  const isOther = ({ endpoint }: EndpointFigures) => Number(endpoint === 'other')
  return figures.sort((a, b) => isOther(a) - isOther(b) || b.requests - a.requests || a.endpoint.localeCompare(b.endpoint))
}

function share(part: number, whole: number): number | null {
  return whole === 0 ? null : round(part / whole)
}

function round(value: number): number {
  return Math.round(value * 10_000) / 10_000
}
