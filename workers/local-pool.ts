import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import type { Writable } from 'node:stream'
import type { Logger } from 'pino'
import type { ScalingTarget } from '../domain/scaling.ts'

export interface LocalPoolOptions {
  /** A worker's program and arguments. It writes a line that `readyLine` matches, and drains when it gets SIGTERM. */
  readonly program: string
  readonly args: readonly string[]
  readonly readyLine: RegExp
  /** The environment of the worker at a place; places are numbered from 0, and that of an ended worker is given to the next. */
  environmentOf(place: number): Readonly<Record<string, string | undefined>>
  /** What a worker that drains may take before it is killed. */
  readonly drainMs: number
  /** Workers at most. */
  readonly max: number
  /** Waits between a crash and the next start: the first, doubled at each crash, and the longest. */
  readonly backoff: { readonly firstMs: number; readonly maxMs: number }
  /** Where goes what workers write on stdout; their stderr is ours. */
  readonly output: Writable
  readonly log: Logger
}

export interface LocalPool extends ScalingTarget {
  /** Process ids of the workers that run or start, without those that drain. */
  pids(): number[]
  /** Drains all workers; resolves when they have ended. */
  stop(): Promise<void>
}

/** A worker that should run: its process, or the wait until it is started again. */
interface Place {
  readonly number: number
  child?: ChildProcess | undefined
  ready: boolean
  crashes: number
  again?: NodeJS.Timeout
}

const READY_LINE_MAX_CHARS = 10_000

/**
 * Worker processes on this machine. One that ends without being told to is started again, after a wait that grows with each
 * crash in a row, as long as none worked for the longest wait; the newest are the first to drain, so that the others keep their connections and caches. A worker ends when
 * this process is gone, however that came: it has a channel to it.
 */
export function createLocalPool(options: LocalPoolOptions): LocalPool {
  const { log, backoff } = options
  const places: Place[] = []
  const draining = new Set<Promise<unknown>>()

  const start = (place: Place): void => {
    const child = spawn(options.program, options.args, {
      stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
      env: options.environmentOf(place.number),
    })
    place.child = child
    place.ready = false
    const startedAtMs = performance.now()
    child.stdout?.pipe(options.output, { end: false })
    whenSaid(child, options.readyLine, () => (place.ready = true))
    const crashed = (how: string): void => {
      if (place.child !== child) return
      if (place.ready && performance.now() - startedAtMs > backoff.maxMs) place.crashes = 0
      place.child = undefined
      place.ready = false
      const waitMs = Math.min(backoff.maxMs, backoff.firstMs * 2 ** place.crashes++)
      log.warn({ place: place.number, how, waitMs }, 'pool.worker-crashed')
      place.again = setTimeout(() => start(place), waitMs)
    }
    child.once('error', (error) => crashed(error.message))
    child.once('exit', (code, signal) => crashed(signal ?? `exit code ${code}`))
  }
  const drain = (place: Place): void => {
    clearTimeout(place.again)
    const { child } = place
    place.child = undefined
    if (child === undefined || hasEnded(child)) return
    const ended = end(child, options, place.number).finally(() => draining.delete(ended))
    draining.add(ended)
  }
  const scaleTo = (workers: number): void => {
    while (places.length > workers) drain(places.pop()!)
    while (places.length < workers) {
      const place: Place = { number: places.length, ready: false, crashes: 0 }
      places.push(place)
      start(place)
    }
  }
  return {
    name: 'local',
    read: () => Promise.resolve({ wanted: places.length, ready: places.filter(({ ready }) => ready).length }),
    scaleTo(workers) {
      if (!Number.isInteger(workers) || workers < 0 || workers > options.max) {
        return Promise.reject(new RangeError(`${workers} local workers: must be a whole number from 0 to ${options.max}`))
      }
      log.info({ from: places.length, to: workers }, 'pool.scaled')
      scaleTo(workers)
      return Promise.resolve()
    },
    pids: () => places.flatMap(({ child }) => child?.pid ?? []),
    async stop() {
      scaleTo(0)
      await Promise.all(draining)
    },
  }
}

const hasEnded = (child: ChildProcess): boolean => child.pid === undefined || child.exitCode !== null || child.signalCode !== null

function whenSaid(child: ChildProcess, line: RegExp, act: () => void): void {
  let said = ''
  child.stdout?.on('data', function listen(chunk: Buffer) {
    said = `${said}${chunk.toString('latin1')}`.slice(-READY_LINE_MAX_CHARS)
    if (!said.split('\n').some((one) => line.test(one))) return
    said = ''
    child.stdout?.off('data', listen)
    act()
  })
}

async function end(child: ChildProcess, { drainMs, log }: LocalPoolOptions, place: number): Promise<void> {
  const exit = once(child, 'exit') as Promise<[code: number | null, signal: NodeJS.Signals | null]>
  child.kill('SIGTERM')
  const kill = setTimeout(() => child.kill('SIGKILL'), drainMs)
  const [code, signal] = await exit
  clearTimeout(kill)
  log[code === 0 ? 'info' : 'warn']({ place, code, signal }, 'pool.worker-drained')
}
