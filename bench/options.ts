import { readOptions } from '../cli/command.ts'
import { CommandFailure } from '../cli/failure.ts'
import type { ProcessGroup } from './process-groups.ts'
import { RESULTS_FOLDER } from './history.ts'
import { DEFAULT_SCENARIOS, KEPT, SCENARIO_NAMES, type RetryOptions } from './scenarios.ts'

export const HELP = `npm run bench -- [options]

Starts a service of its own on free ports with an empty data directory, publishes to it, measures what arrives at a sink on
this machine, and prints min/median/max over the repetitions. All traffic is on 127.0.0.1; nothing is left behind.
Right after each of S0 to S4 the same is done with a bare relay: Express in, undici out, nothing stored.

  --scenarios S0,S1,…   ${DEFAULT_SCENARIOS.join(',')}
                        unless told; S0 warms up and is not shown
  --repetitions 3       of all of them, 1 to 20
  --no-relay            leaves the bare relay out
  --results DIR         writes the run there, as JSON and SVG, whatever its scenarios; a run of our own service that has
                        S1 to S6 is written to bench/results unless told
  --no-results          writes neither
  --out FILE            appends one line of JSON for each scenario and repetition
  --url URL --token T   measures this running service (on 127.0.0.1, TIDINGS_ALLOW_SUBNETS=127.0.0.0/8) instead
  --database URL        its Postgres, which "retry" asks for the times it recorded
  --groups "a=PID;b=…"  its processes, for the CPU columns
  --retry 100x100@4     endpoints x messages @ messages a second of "retry"
  --retry-schedule 40,8 seconds before each of its retries; so many attempts fail

S1: 5,000 messages, 1 endpoint. S2: 1,000 to 10. S3: 200 to 100. S4: 20 messages a second to 1 endpoint. S5: 500 to 10, one
of which never answers and one answers 500; S6: 2,000 to the same; S5-healthy, S6-healthy: to 10 that all answer. retry: how
late retries leave while 10,000 wait. dead: 100 to 1,000 endpoints of which 100 answer 500; dead-no-breaker: the same without
a circuit breaker; dead-healthy: all answer. storm: 500 endpoints with 20,000 deliveries recover in the same second.
fifo-one: 5,000 to one ordered endpoint. batch: 60,000 to one with batches of 100, batch-off: 20,000 to one without,
batch-none: 60,000 to no endpoint (with all three, what delivering costs besides accepting is shown too); batch-idle: 5 a
second to one with batches.`

export interface BenchOptions {
  readonly scenarios: readonly string[]
  readonly repetitions: number
  readonly out: string | undefined
  /** Where the run is written; undefined: nowhere. */
  readonly results: string | undefined
  /** Whether a bare relay is measured beside the service. */
  readonly relay: boolean
  /** Undefined: a service of our own. */
  readonly target: { readonly url: string; readonly token: string } | undefined
  readonly databaseUrl: string | undefined
  readonly groups: readonly ProcessGroup[]
  readonly retry: RetryOptions
}

const LOOPBACK = /^http:\/\/(127\.\d+\.\d+\.\d+|localhost|\[::1\])(:\d+)?\/?$/
const REPETITIONS_MAX = 20
const DELIVERIES_MAX = 100_000

/** @throws {CommandFailure} `usage` */
export function readBenchOptions(args: readonly string[]): BenchOptions {
  const text = { type: 'string' } as const
  const values = readOptions(args, {
    scenarios: { ...text, default: DEFAULT_SCENARIOS.join(',') },
    repetitions: { ...text, default: '3' },
    out: text,
    results: text,
    'no-results': { type: 'boolean', default: false },
    'no-relay': { type: 'boolean', default: false },
    url: text,
    token: text,
    database: text,
    groups: { ...text, default: '' },
    retry: { ...text, default: '100x100@4' },
    'retry-schedule': { ...text, default: '40,8' },
  })
  const scenarios = values.scenarios.split(',').map((name) => name.trim())
  const unknown = scenarios.find((name) => !SCENARIO_NAMES.includes(name))
  if (unknown !== undefined) throw usage(`no scenario "${unknown}": there are ${SCENARIO_NAMES.join(', ')}`)
  const repetitions = Number(values.repetitions)
  if (!Number.isInteger(repetitions) || repetitions < 1 || repetitions > REPETITIONS_MAX) {
    throw usage(`--repetitions is a number from 1 to ${REPETITIONS_MAX}`)
  }
  if ((values.url === undefined) !== (values.token === undefined)) throw usage('--url and --token go together')
  if (values.url !== undefined && !LOOPBACK.test(values.url)) throw usage('--url must be an address of this machine: http://127.0.0.1:8071')
  if (values.url !== undefined && scenarios.includes('retry') && values.database === undefined) {
    throw usage('"retry" with --url needs --database, or leave it out with --scenarios')
  }
  if (values.results !== undefined && values['no-results']) throw usage('--results and --no-results exclude each other')
  const kept = values.url === undefined && !values['no-results'] && KEPT.every((name) => scenarios.includes(name))
  return {
    scenarios,
    repetitions,
    out: values.out,
    results: values.results ?? (kept ? RESULTS_FOLDER : undefined),
    relay: !values['no-relay'],
    target: values.url === undefined ? undefined : { url: values.url.replace(/\/$/, ''), token: values.token ?? '' },
    databaseUrl: values.database,
    groups: values.groups.split(';').flatMap(readGroup),
    retry: readRetry(values.retry, values['retry-schedule']),
  }
}

function readGroup(part: string): ProcessGroup[] {
  if (part.trim() === '') return []
  const match = /^ *([\w+-]+) *= *(\d+(?: *, *\d+)*) *$/.exec(part)
  if (match === null) throw usage(`--groups: "${part}" is not name=PID,PID`)
  return [{ name: match[1]!, pids: match[2]!.split(',').map(Number) }]
}

function readRetry(shape: string, schedule: string): RetryOptions {
  const match = /^(\d+)x(\d+)@(\d+(?:\.\d+)?)$/.exec(shape)
  const [endpoints, messages, ratePerS] = (match?.slice(1) ?? []).map(Number)
  if (!endpoints || !messages || !ratePerS || endpoints * messages > DELIVERIES_MAX) {
    throw usage(`--retry is endpoints x messages @ rate, e.g. 100x100@4, with ${DELIVERIES_MAX} deliveries at most`)
  }
  const scheduleS = schedule.split(',').map(Number)
  if (scheduleS.some((seconds) => !(seconds > 0 && seconds <= 300)) || scheduleS.length > 10) {
    throw usage('--retry-schedule is 1 to 10 numbers of seconds, each over 0 and at most 300')
  }
  return { endpoints, messages, ratePerS, scheduleS }
}

function usage(text: string): CommandFailure {
  return new CommandFailure('usage', `${text} (--help shows the options)`)
}
