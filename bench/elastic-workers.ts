import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { createWriteStream } from 'node:fs'
import { pino } from 'pino'
import { createLocalPool } from '../workers/local-pool.ts'
import type { ElasticStack } from './elastic-stack.ts'
import { descendants } from './process-groups.ts'

const ROOT = join(import.meta.dirname, '..')
const WORKER = 'cli/worker.ts'
/** Over the default request timeout, as everywhere. */
const DRAIN_MS = 40_000
const BACKOFF = { firstMs: 1000, maxMs: 10_000 }

/** The workers of a drill. */
export interface DrilledWorkers {
  /** Processes that run or start. */
  pids(): readonly number[]
  /** When workers were killed, of `performance.now()`. */
  readonly killedAtMs: readonly number[]
  /** Kills one, if there is one, and leaves at least one other. @returns whether it did */
  kill(): boolean
  /** Adds or removes one; of two that are removed one is killed. Undefined where the rules decide. */
  turn?(): Promise<string>
  stop(): Promise<void>
}

/** The autoscaler's process and its pool decide. @param env its rules */
export async function startAutoscaledWorkers(stack: ElasticStack, env: Readonly<Record<string, string>>): Promise<DrilledWorkers> {
  const autoscaler = await stack.start('cli/autoscale.ts', ['run', '--target', 'local'], /^tidings autoscaler ready/m, env)
  const killedAtMs: number[] = []
  const pids = () => descendants(autoscaler.pid, /cli\/worker\.ts/)
  return {
    pids,
    killedAtMs,
    kill: () => killOne(pids(), killedAtMs),
    stop: async () => void (await autoscaler.stop()),
  }
}

/** We decide: a worker is added or removed at each turn, between one and `max`. */
export function startChurnedWorkers(stack: ElasticStack, max: number): DrilledWorkers {
  const log = pino({ level: 'warn' }, createWriteStream(join(stack.logs, 'pool.log')))
  const pool = createLocalPool({
    program: process.execPath,
    args: ['--disable-warning=ExperimentalWarning', join(ROOT, WORKER), '--role', 'all'],
    readyLine: /^tidings worker ready/,
    environmentOf: () => stack.environment,
    drainMs: DRAIN_MS,
    max,
    backoff: BACKOFF,
    output: new PassThrough().resume(),
    log,
  })
  const killedAtMs: number[] = []
  let growing = true
  let killNext = false
  return {
    pids: () => pool.pids(),
    killedAtMs,
    kill: () => killOne(pool.pids(), killedAtMs),
    async turn() {
      const workers = pool.pids().length
      if (workers >= max) growing = false
      if (workers <= 1) growing = true
      if (growing) {
        await pool.scaleTo(workers + 1)
        return `a worker more: ${workers + 1}`
      }
      const killed = killNext && killNewest(pool.pids(), killedAtMs)
      killNext = !killNext
      await pool.scaleTo(workers - 1)
      return `a worker less, ${killed ? 'killed' : 'drained'}: ${workers - 1}`
    },
    stop: () => pool.stop(),
  }
}

function killOne(pids: readonly number[], killedAtMs: number[]): boolean {
  if (pids.length < 2) return false
  return killNewest(pids, killedAtMs)
}

function killNewest(pids: readonly number[], killedAtMs: number[]): boolean {
  const pid = pids.at(-1)
  if (pid === undefined) return false
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // It has ended by itself.
    return false
  }
  killedAtMs.push(performance.now())
  return true
}
