import { spawn, type ChildProcess } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { commandOf, isRunning } from '../../cli/embedded/process-table.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const LINE_TIMEOUT_MS = 120_000

export interface RunningProcess {
  readonly pid: number
  /** Everything it has written so far. */
  readonly stdout: () => string
  readonly stderr: () => string
  /** The first line of stdout or stderr that matches, written already or to come. Rejects when it ends without. */
  line(pattern: RegExp, timeoutMs?: number): Promise<RegExpMatchArray>
  signal(signal: NodeJS.Signals): void
  /** Exit code, or the signal that ended it. */
  readonly ended: Promise<number | NodeJS.Signals>
  hasEnded(): boolean
}

export interface SpawnOptions {
  /** Over the environment of the test; an undefined value removes the variable. */
  readonly env?: Readonly<Record<string, string | undefined>>
  readonly cwd?: string
  readonly uid?: number
  readonly gid?: number
}

/** Starts a program without stdin. */
export function spawnProcess(command: string, args: readonly string[], options: SpawnOptions = {}): RunningProcess {
  const child = spawn(command, args, {
    ...options,
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const output = { stdout: '', stderr: '' }
  const wakes = new Set<() => void>()
  const wake = () => wakes.forEach((check) => check())
  const collect = (name: 'stdout' | 'stderr') => (chunk: string) => {
    output[name] += chunk
    wake()
  }
  child.stdout.setEncoding('utf8').on('data', collect('stdout'))
  child.stderr.setEncoding('utf8').on('data', collect('stderr'))
  let over = false
  const ended = endOf(child).finally(() => {
    over = true
    wake()
  })
  // Who does not ask how it ended is not told by an unhandled rejection.
  ended.catch(() => undefined)
  const line = (pattern: RegExp, timeoutMs = LINE_TIMEOUT_MS) =>
    new Promise<RegExpMatchArray>((resolve, reject) => {
      const finish = (act: () => void) => {
        clearTimeout(timer)
        wakes.delete(check)
        act()
      }
      const told = () => `${command} ${args.join(' ')}\n--- stdout\n${output.stdout}\n--- stderr\n${output.stderr}`
      const timer = setTimeout(() => finish(() => reject(new Error(`no line ${String(pattern)} in ${timeoutMs} ms: ${told()}`))), timeoutMs)
      const check = () => {
        const found = `${output.stdout}\n${output.stderr}`
          .split('\n')
          .map((text) => text.match(pattern))
          .find((match) => match !== null)
        if (found !== undefined && found !== null) finish(() => resolve(found))
        else if (over) finish(() => reject(new Error(`ended without a line ${String(pattern)}: ${told()}`)))
      }
      wakes.add(check)
      check()
    })
  return {
    pid: child.pid ?? 0,
    stdout: () => output.stdout,
    stderr: () => output.stderr,
    line,
    signal: (signal) => void child.kill(signal),
    ended,
    hasEnded: () => over,
  }
}

function endOf(child: ChildProcess): Promise<number | NodeJS.Signals> {
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => resolve(code ?? signal ?? 0))
  })
}

/** Starts one of the repository's TypeScript files with this Node. */
export function spawnScript(script: string, args: readonly string[] = [], options: SpawnOptions = {}): RunningProcess {
  return spawnProcess(process.execPath, ['--disable-warning=ExperimentalWarning', join(ROOT, script), ...args], options)
}

/** Running processes whose command line holds the text (a data directory, say), this one excepted. Linux only. */
export function processesNaming(text: string): { readonly pid: number; readonly command: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .map((name) => ({ pid: Number(name), command: commandOf(Number(name)) }))
    .filter(({ pid, command }) => command.includes(text) && isRunning(pid))
}

/** Throws when a process whose command line holds the text still runs after `waitMs`. */
export async function assertNoProcessNames(text: string, waitMs = 5000): Promise<void> {
  const deadline = performance.now() + waitMs
  for (;;) {
    const left = processesNaming(text)
    if (left.length === 0) return
    if (performance.now() > deadline) throw new Error(`left running:\n${left.map(({ pid, command }) => `${pid} ${command}`).join('\n')}`)
    await delay(50)
  }
}
