import { spawn } from 'node:child_process'
import { closeSync, existsSync, openSync, readSync, renameSync, statSync } from 'node:fs'
import { Socket } from 'node:net'
import { stopProcess, type StopStep } from './process-table.ts'

const LOG_KEEP_BYTES = 20 * 1024 * 1024
const LOG_TAIL_BYTES = 16_384

export interface ChildOptions {
  readonly command: string
  readonly args: readonly string[]
  /** Receives stdout and stderr, appended; moved to `<file>.1` at a start that finds it over 20 MB. */
  readonly logFile: string
  /** Run as this user; only for root. */
  readonly user?: { readonly uid: number; readonly gid: number } | undefined
  readonly env: Readonly<Record<string, string | undefined>>
  readonly cwd: string
  /** How it is stopped, in order. */
  readonly stopSteps: readonly StopStep[]
}

/** A server process that this one started. */
export interface Child {
  readonly pid: number
  /** How it ended, as a phrase: "exit code 1", "signal SIGKILL". Never rejects. */
  readonly ended: Promise<string>
  hasEnded(): boolean
  /** Ends it by its stop steps, or by these. Safe to call again, and after it has ended. */
  stop(steps?: readonly StopStep[]): Promise<void>
}

/**
 * Starts a server in a session of its own, so that Ctrl-C in the terminal reaches only us and we stop it in order. It does
 * not keep this process alive, and does not survive it: a guard process stops it when we are gone, also by kill -9.
 * @throws when the program cannot be started at all
 */
export async function startChild(options: ChildOptions): Promise<Child> {
  rotate(options.logFile)
  const log = openSync(options.logFile, 'a', 0o600)
  const child = spawn(options.command, options.args, {
    stdio: ['ignore', log, log],
    detached: true,
    cwd: options.cwd,
    env: options.env,
    ...(options.user === undefined ? {} : options.user),
  })
  closeSync(log)
  let over = false
  const ended = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => {
      over = true
      resolve(signal === null ? `exit code ${code}` : `signal ${signal}`)
    })
  })
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', reject)
  })
  const pid = child.pid!
  child.unref()
  const dismiss = guard(pid, options.stopSteps[0]?.signal ?? 'SIGTERM')
  void ended.then(dismiss)
  return {
    pid,
    ended,
    hasEnded: () => over,
    async stop(steps = options.stopSteps) {
      if (over) return
      child.ref()
      await stopProcess(pid, steps)
      await ended
    },
  }
}

// Reads until this process ends, however it ends: then its end of the pipe closes. Told "done" it leaves the child alone.
const GUARD = `if read -r line; then exit 0; fi
kill -s "$2" "$1" 2>/dev/null || exit 0
i=0
while kill -0 "$1" 2>/dev/null; do
  case "$(cat "/proc/$1/stat" 2>/dev/null)" in *") Z "*) exit 0 ;; esac
  i=$((i + 1))
  if [ "$i" -gt 80 ]; then kill -s KILL "$1"; exit 0; fi
  sleep 0.1
done`

function guard(pid: number, signal: NodeJS.Signals): () => void {
  const watcher = spawn('/bin/sh', ['-c', GUARD, 'tidings-guard', String(pid), signal.replace('SIG', '')], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
    cwd: '/',
  })
  watcher.on('error', () => undefined)
  watcher.unref()
  const { stdin } = watcher
  stdin.on('error', () => undefined)
  if (stdin instanceof Socket) stdin.unref()
  return () => stdin.end('done\n')
}

function rotate(file: string): void {
  if (existsSync(file) && statSync(file).size > LOG_KEEP_BYTES) renameSync(file, `${file}.1`)
}

/** The size of a log now, so that `readLog` can show what came after. */
export function logSize(file: string): number {
  return existsSync(file) ? statSync(file).size : 0
}

/** What was written to a log after `from`, at most its last 16 kB. */
export function readLog(file: string, from: number): string {
  const size = logSize(file)
  const start = Math.max(from > size ? 0 : from, size - LOG_TAIL_BYTES)
  if (size === start) return ''
  const fd = openSync(file, 'r')
  try {
    const bytes = Buffer.alloc(size - start)
    return bytes.subarray(0, readSync(fd, bytes, 0, bytes.length, start)).toString('utf8')
  } finally {
    closeSync(fd)
  }
}
