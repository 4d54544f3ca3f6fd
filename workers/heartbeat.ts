import { randomBytes } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { hostname } from 'node:os'
import { setTimeout as pause } from 'node:timers/promises'
import type { Load } from '../activities/load.ts'
import { forgetWorker, reportWorker, type WorkerIdentity, type WorkerReport } from '../storage/workers.ts'
import type { Parts } from './parts.ts'
import type { Stack } from './stack.ts'

// How full the lanes are is looked at so many times a report: their mean is what counts, not one moment.
const LOOKS_PER_REPORT = 15
const LOOK_LEAST_MS = 20
const FORGET_WITHIN_MS = 1000

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { readonly version: string }

export interface HeartbeatOptions {
  readonly load: Load
  readonly roles: readonly string[]
  readonly lanes: readonly string[]
}

/**
 * Writes this process's row, at once and then every interval of the autoscaler, until the stack is unwound: then it is deleted. A
 * report that cannot be written is left out: what it would have told is of the past by the next.
 */
export async function startHeartbeat(
  { config, pool, log }: Pick<Parts, 'config' | 'pool' | 'log'>,
  options: HeartbeatOptions,
  stack: Stack,
) {
  const everyMs = config.autoscale.rules.intervalMs
  const worker: WorkerIdentity = {
    id: randomBytes(8).toString('hex'),
    roles: options.roles,
    lanes: options.lanes,
    host: hostname(),
    pid: process.pid,
    version,
    startedAtMs: Date.now(),
    reportMs: everyMs,
  }
  const watch = watchLoad(options.load)
  let writing: Promise<void> | undefined
  const write = async () => {
    await reportWorker(pool, worker, watch.take()).catch((error: unknown) => log.warn({ err: error }, 'heartbeat.not-written'))
  }
  const beat = () => (writing ??= write().finally(() => (writing = undefined)))
  await beat()
  const looking = setInterval(() => watch.look(), Math.max(LOOK_LEAST_MS, everyMs / LOOKS_PER_REPORT))
  const beating = setInterval(() => void beat(), everyMs)
  stack.push(async () => {
    clearInterval(looking)
    clearInterval(beating)
    const forgetting = Promise.resolve(writing).then(() => forgetWorker(pool, worker.id))
    forgetting.catch(() => undefined)
    // Where Postgres is away the row is left: it counts no more when it has been silent.
    await Promise.race([forgetting, pause(FORGET_WITHIN_MS, undefined, { ref: false })])
  })
}

function watchLoad(load: Load) {
  let loop = performance.eventLoopUtilization()
  let looks = 0
  let used = load.lanes.map(() => 0)
  const look = () => {
    looks++
    for (const [i, lane] of load.lanes.entries()) used[i] = (used[i] ?? 0) + lane.inFlight()
  }
  return {
    look,
    take(): WorkerReport {
      look()
      const before = loop
      loop = performance.eventLoopUtilization()
      const { utilization } = performance.eventLoopUtilization(loop, before)
      const means = load.lanes.map(({ max }, i) => ({ slotsUsed: (used[i] ?? 0) / looks, slots: max }))
      const fullest = means.sort((a, b) => b.slotsUsed / b.slots - a.slotsUsed / a.slots)[0] ?? { slotsUsed: 0, slots: 1 }
      looks = 0
      used = load.lanes.map(() => 0)
      return { utilisation: Math.min(1, Math.max(0, utilization)), ...fullest, ...load.take() }
    },
  }
}
