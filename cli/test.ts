import { spawn } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { join } from 'node:path'
import { readConfig } from '../config/index.ts'
import { runCommand } from './command.ts'
import { startPostgres } from './embedded/postgres.ts'
import { findTemporal } from './embedded/temporal-program.ts'
import { startTemporal } from './embedded/temporal.ts'
import { createProgress } from './progress.ts'

const HELP = `npm test [-- <files, folders or options of node --test>]

Starts one Postgres and one Temporal for the run, then node --test over test/**/*.test.ts.
  npm test -- test/api                       one folder
  npm test -- --test-name-pattern="retry"    by title`

/** Starts the servers that the tests share, runs the tests, stops everything. The tests' exit code is ours. */
await runCommand({ help: HELP, main })

async function main(args: readonly string[]): Promise<number> {
  const progress = createProgress()
  const folder = mkdtempSync(join(tmpdir(), 'tidings-run-'))
  chmodSync(folder, 0o755)
  const stops: (() => Promise<void>)[] = [() => Promise.resolve(rmSync(folder, { recursive: true, force: true, maxRetries: 3 }))]
  try {
    const started = await Promise.allSettled([sharedPostgres(folder), sharedTemporal(folder)])
    for (const result of started) if (result.status === 'fulfilled') stops.push(result.value.stop)
    const [postgres, temporal] = started
    if (postgres.status === 'rejected') throw postgres.reason
    if (temporal.status === 'rejected') throw temporal.reason
    progress.say('Postgres and Temporal for the tests are ready')
    return await runTests(args, {
      TIDINGS_TEST_POSTGRES: postgres.value.url,
      TIDINGS_TEST_TEMPORAL: temporal.value.address,
      TIDINGS_TEST_TEMPORAL_PROGRAM: temporal.value.program,
      TIDINGS_TEST_FOLDER: folder,
    })
  } finally {
    for (const stop of stops.reverse()) await stop()
  }
}

async function sharedPostgres(folder: string) {
  const dataDir = join(folder, 'postgres')
  mkdirSync(dataDir)
  // Nothing here outlives the run, so nothing has to reach the disk.
  return await startPostgres({ dataDir, port: 0, settings: { fsync: 'off', full_page_writes: 'off' } })
}

async function sharedTemporal(folder: string) {
  const dataDir = join(folder, 'temporal')
  mkdirSync(dataDir)
  const program = await findTemporal({ cacheDir: readConfig().cacheDir, dataDir: join(folder) }, createProgress())
  const server = await startTemporal({ program, dataDir, namespace: 'tidings-test', port: 0, uiPort: 0 })
  return { ...server, program }
}

/** The runner is a process of its own, so that a test that ends the process, or a leak in it, ends only that. */
function runTests(args: readonly string[], env: Readonly<Record<string, string>>): Promise<number> {
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, '..', 'test', 'support', 'run.ts'), ...args],
    {
      stdio: 'inherit',
      env: { ...process.env, ...env },
    },
  )
  const forward = (signal: NodeJS.Signals) => child.kill(signal)
  process.on('SIGINT', forward).on('SIGTERM', forward).on('SIGHUP', forward)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('exit', (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : constants.signals[signal])))
  })
}
