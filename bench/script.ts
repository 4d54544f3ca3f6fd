import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CommandFailure } from '../cli/failure.ts'

const ROOT = join(import.meta.dirname, '..')
const READY_TIMEOUT_MS = 120_000
const LOOK_EVERY_MS = 100
/** What a process that stops may take. */
const STOP_MS = 40_000
const LOG_TAIL_CHARS = 3000

/** A process of the service that runs by itself. */
export interface Service {
  readonly pid: number
  /** SIGTERM, and SIGKILL where it takes too long. Resolves with its exit code or signal. */
  stop(): Promise<number | string>
  /** SIGKILL. Resolves when it is gone. */
  kill(): Promise<void>
  /** Rejects when it ends without having been asked to. */
  readonly died: Promise<never>
  /** What it has written. */
  said(): string
}

/** A script of ours, in a process of its own. */
export interface Script {
  readonly script: string
  readonly args: readonly string[]
  readonly ready: RegExp
  readonly env: Readonly<Record<string, string | undefined>>
  readonly logFile: string
}

/** Starts a script, and waits until it has written the line that says that it works. @throws {CommandFailure} */
export async function startScript({ script, args, ready, env, logFile }: Script): Promise<Service> {
  const log = openSync(logFile, 'a', 0o600)
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', join(ROOT, script), ...args], {
    // The channel tells it when we are gone, however that came.
    stdio: ['ignore', log, log, 'ipc'],
    cwd: ROOT,
    // Ctrl-C in the terminal is for us; we stop it in our order.
    detached: true,
    env,
  })
  closeSync(log)
  const said = () => readFileSync(logFile, 'utf8')
  let asked = false
  const ended = once(child, 'exit').then(([code, signal]) => (signal ?? code) as number | string)
  const died = ended.then((how) => {
    if (asked) return new Promise<never>(() => undefined)
    throw new CommandFailure('child_died', `${script} ended by itself (${how}):\n${said().slice(-LOG_TAIL_CHARS)}`)
  })
  died.catch(() => undefined)
  const stop = async () => {
    asked = true
    child.kill('SIGTERM')
    const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
    const how = await ended
    clearTimeout(late)
    return how
  }
  const kill = async () => {
    asked = true
    child.kill('SIGKILL')
    await ended
  }
  const endMs = performance.now() + READY_TIMEOUT_MS
  while (!ready.test(said())) {
    if (performance.now() > endMs) {
      await stop()
      throw new CommandFailure(
        'service_failed',
        `${script} was not ready in ${READY_TIMEOUT_MS / 1000} s:\n${said().slice(-LOG_TAIL_CHARS)}`,
      )
    }
    await Promise.race([delay(LOOK_EVERY_MS), died])
  }
  return { pid: child.pid!, stop, kill, died, said }
}
