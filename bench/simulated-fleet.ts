/** A fleet of workers under a day's traffic, scaled by the product's own rules: discrete events, a fluid backlog between them. */
import { decide, FRESH_STATE, type ScalingDecision, type ScalingSample } from '../domain/scaling.ts'
import type { ScalingRules } from '../domain/scaling-rules.ts'

export interface FleetOptions {
  readonly rules: ScalingRules
  readonly hours: number
  /** Deliveries a second that one worker makes. */
  readonly perWorker: number
  /** From the decision until a worker takes work. */
  readonly startMs: number
  /** From the decision until a worker that takes no more work is gone. It counts as running till then. */
  readonly drainMs: number
  /** Deliveries a second that come at a time of the day. */
  readonly load: (atMs: number) => number
}

/** The fleet at a sample. */
export interface FleetPoint {
  readonly atMs: number
  readonly load: number
  /** That take work. */
  readonly ready: number
  readonly wanted: number
  readonly backlog: number
}

export interface FleetRun {
  readonly points: readonly FleetPoint[]
  /** Changes alone. */
  readonly acts: readonly ScalingDecision[]
  /** Workers that ran, drained ones too, times hours. */
  readonly workerHours: number
}

type Event = { readonly atMs: number } & ({ readonly kind: 'sample' } | { readonly kind: 'started' | 'drained'; readonly workers: number })

const REST_MS = 50
const FIRST_UTILISATION = 0.6
const HOUR_MS = 3_600_000

/** Begins with the fleet that suits the load of the first moment. */
export function simulateFleet(options: FleetOptions): FleetRun {
  const { rules, hours, perWorker, startMs, drainMs, load } = options
  const queue: Event[] = [{ kind: 'sample', atMs: rules.intervalMs }]
  const later = (event: Event) => void queue.splice(queue.findLastIndex(({ atMs }) => atMs <= event.atMs) + 1, 0, event)
  const [points, acts]: [FleetPoint[], ScalingDecision[]] = [[], []]
  const first = Math.min(rules.max, Math.max(rules.min, Math.ceil(load(0) / perWorker / FIRST_UTILISATION)))
  let [state, nowMs, wanted, ready, running, backlog, workerMs] = [FRESH_STATE, 0, first, first, first, 0, 0]
  for (let event = queue.shift(); event !== undefined && event.atMs <= hours * HOUR_MS; event = queue.shift()) {
    const elapsedMs = event.atMs - nowMs
    const arriving = load(nowMs)
    backlog = Math.max(0, backlog + ((arriving - ready * perWorker) * elapsedMs) / 1000)
    workerMs += running * elapsedMs
    nowMs = event.atMs
    if (event.kind === 'started') ready += event.workers
    if (event.kind === 'drained') running -= event.workers
    if (event.kind !== 'sample') continue
    const { state: next, decision } = decide(state, sampleOf({ atMs: nowMs, load: arriving, ready, wanted, backlog }, perWorker), rules)
    state = next
    points.push({ atMs: nowMs, load: arriving, ready, wanted, backlog })
    const change = (decision.to ?? wanted) - wanted
    wanted += change
    if (change !== 0) acts.push(decision)
    if (change > 0) {
      running += change
      later({ kind: 'started', atMs: nowMs + startMs, workers: change })
    } else if (change < 0) {
      ready += change
      later({ kind: 'drained', atMs: nowMs + drainMs, workers: -change })
    }
    later({ kind: 'sample', atMs: nowMs + rules.intervalMs })
  }
  return { points, acts, workerHours: workerMs / HOUR_MS }
}

/** What an autoscaler would see of it. Who comes waits for what is before it. */
function sampleOf({ atMs, load, ready, wanted, backlog }: FleetPoint, perWorker: number): ScalingSample {
  const canDo = ready * perWorker
  const waitMs = (backlog / canDo) * 1000
  return {
    atMs,
    workers: wanted,
    ready,
    depth: Math.round(backlog),
    rateLimited: 0,
    oldestMs: waitMs,
    utilisation: backlog > 0 ? 1 : Math.min(1, load / canDo),
    firstRequestP99Ms: REST_MS + waitMs,
    firstRequests: Math.round(load),
    attempts: Math.round(load),
    endpointFailures: 0,
    ownFailures: 0,
  }
}

/** Traffic of a day from midnight: little at night, a hill over the working day, and two steep peaks, the second up to `most`. */
export function dayCurve(most: number, hours: number): (atMs: number) => number {
  return (atMs) => {
    const hour = ((atMs / HOUR_MS) % hours) * (24 / hours)
    const bell = (at: number, width: number) => Math.exp(-(((hour - at) / width) ** 2))
    // Some unrest, the same at each run.
    const unrest = 1 + 0.03 * Math.sin(hour * 97) + 0.02 * Math.sin(hour * 411)
    return most * unrest * (0.04 + 0.4 * bell(14, 4.5) + 0.5 * bell(10, 0.5) + 0.87 * bell(20, 0.7))
  }
}

/** What a run came to. */
export interface FleetFigures {
  readonly peakWorkers: number
  /** Less than the lower threshold of the time used, though more than the least ran. */
  readonly overHours: number
  /** More came than could be done, or waited. */
  readonly underHours: number
  readonly backlogMax: number
  readonly waitMaxS: number
  readonly ups: number
  readonly downs: number
  /** Changes of direction, and those of them within a cooldown. */
  readonly turns: number
  readonly flaps: number
  readonly workerHours: number
  /** Of a fleet that is always as large as this one was at its largest. */
  readonly fixedWorkerHours: number
}

export function figuresOf(
  { points, acts, workerHours }: FleetRun,
  { rules, perWorker }: Pick<FleetOptions, 'rules' | 'perWorker'>,
): FleetFigures {
  const stepHours = rules.intervalMs / HOUR_MS
  const hoursOf = (is: (point: FleetPoint) => boolean) => points.filter(is).length * stepHours
  const most = (value: (point: FleetPoint) => number) => points.reduce((max, point) => Math.max(max, value(point)), 0)
  const turns = acts.filter(({ action }, i) => i > 0 && acts[i - 1]!.action !== action)
  const isFlap = ({ atMs }: ScalingDecision) => {
    const before = acts.findLast((one) => one.atMs < atMs)!
    return atMs - before.atMs < (before.action === 'up' ? rules.up.cooldownMs : rules.down.cooldownMs)
  }
  const peakWorkers = most(({ wanted }) => wanted)
  return {
    peakWorkers,
    overHours: hoursOf(({ load, ready }) => ready > rules.min && load < rules.down.utilisation * ready * perWorker),
    underHours: hoursOf(({ load, ready, backlog }) => backlog > 0 || load > ready * perWorker),
    backlogMax: Math.round(most(({ backlog }) => backlog)),
    waitMaxS: most(({ backlog, ready }) => backlog / (ready * perWorker)),
    ups: acts.filter(({ action }) => action === 'up').length,
    downs: acts.filter(({ action }) => action === 'down').length,
    turns: turns.length,
    flaps: turns.filter(isFlap).length,
    workerHours,
    fixedWorkerHours: peakWorkers * points.length * stepHours,
  }
}
