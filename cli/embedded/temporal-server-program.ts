import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { CommandFailure, reasonOf } from '../failure.ts'
import type { Progress } from '../progress.ts'

const run = promisify(execFile)

/** What `.ci/temporal-server/go.mod` pins. */
export const TEMPORAL_SERVER_VERSION = '1.32.0'

const MODULE = join(import.meta.dirname, '..', '..', '.ci', 'temporal-server')
const PACKAGES = { server: 'go.temporal.io/server/cmd/server', sqlTool: 'go.temporal.io/server/cmd/tools/sql' } as const
const NAMES = { server: 'temporal-server', sqlTool: 'temporal-sql-tool' } as const
const VERSION_TIMEOUT_MS = 15_000
const BUILD_TIMEOUT_MS = 3_600_000
const OUTPUT_MAX_BYTES = 10_000_000

/** The full Temporal server, which replicates between clusters, and the tool that makes its databases. */
export interface TemporalServerPrograms {
  readonly server: string
  readonly sqlTool: string
}

export interface ServerPlaces {
  /** `TIDINGS_TEMPORAL_SERVER`: a `temporal-server` with a `temporal-sql-tool` beside it; undefined: none is named. */
  readonly program: string | undefined
  /** `TIDINGS_CACHE_DIR`; undefined: ~/.cache/tidings. */
  readonly cacheDir: string | undefined
  /** Ends a build. */
  readonly signal?: AbortSignal
}

/**
 * The programs that are there: those that are named, else those of the cache. They are not built.
 * @returns undefined where none is named and the cache has none of the version wanted
 * @throws {CommandFailure} `temporal_missing` where what is named is not there or does not run
 */
export async function existingTemporalServer(places: ServerPlaces): Promise<TemporalServerPrograms | undefined> {
  if (places.program !== undefined) return named(places.program)
  const cached = programsIn(cacheOf(places))
  return (await versionOf(cached.server)) === TEMPORAL_SERVER_VERSION && existsSync(cached.sqlTool) ? cached : undefined
}

/**
 * The programs: those that are named, else those of the cache, else built into the cache with Go, which takes minutes.
 * Safe under concurrent calls; each builds then.
 * @throws {CommandFailure} `temporal_missing`
 */
export async function findTemporalServer(places: ServerPlaces, progress: Progress): Promise<TemporalServerPrograms> {
  const existing = await existingTemporalServer(places)
  if (existing !== undefined) return existing
  const folder = cacheOf(places)
  await requireGo()
  const text = `building the Temporal server ${TEMPORAL_SERVER_VERSION} with Go (some minutes, once) into ${folder}`
  return progress.step(text, () => build(folder, places.signal))
}

async function named(program: string): Promise<TemporalServerPrograms> {
  const sqlTool = join(dirname(program), NAMES.sqlTool)
  if ((await versionOf(program)) === undefined) {
    throw new CommandFailure(
      'temporal_missing',
      `TIDINGS_TEMPORAL_SERVER: ${program} is not a temporal-server that runs here: correct or unset it`,
    )
  }
  if (!existsSync(sqlTool)) {
    throw new CommandFailure('temporal_missing', `TIDINGS_TEMPORAL_SERVER: there is no ${NAMES.sqlTool} beside ${program}`)
  }
  return { server: program, sqlTool }
}

function cacheOf({ cacheDir }: ServerPlaces): string {
  return join(cacheDir ?? join(homedir(), '.cache', 'tidings'), 'temporal-server')
}

function programsIn(folder: string): TemporalServerPrograms {
  return { server: join(folder, NAMES.server), sqlTool: join(folder, NAMES.sqlTool) }
}

/** What `temporal-server --version` says; undefined where there is no such program or it does not run. */
async function versionOf(program: string): Promise<string | undefined> {
  try {
    const { stdout } = await run(program, ['--version'], { timeout: VERSION_TIMEOUT_MS })
    return /version v?(\d+\.\d+[\w.-]*)/.exec(stdout)?.[1]
  } catch {
    return undefined
  }
}

const OTHER_WAYS = 'set TIDINGS_TEMPORAL_SERVER to a temporal-server that has its temporal-sql-tool beside it'

async function requireGo(): Promise<void> {
  try {
    await run('go', ['version'], { timeout: VERSION_TIMEOUT_MS })
  } catch (cause) {
    throw new CommandFailure(
      'temporal_missing',
      `the Temporal server ${TEMPORAL_SERVER_VERSION} is not built yet, and Go, which builds it, is not on the PATH: install Go, or ${OTHER_WAYS}`,
      { cause },
    )
  }
  if (!existsSync(join(MODULE, 'go.mod'))) {
    throw new CommandFailure(
      'temporal_missing',
      `the Temporal server is built in a clone of the repository, and this is none: ${OTHER_WAYS}`,
    )
  }
}

/** Each program is complete when it has its name. */
async function build(folder: string, signal: AbortSignal | undefined): Promise<TemporalServerPrograms> {
  const programs = programsIn(folder)
  let partial: string | undefined
  try {
    mkdirSync(folder, { recursive: true })
    partial = mkdtempSync(join(folder, '.build-'))
    for (const name of ['sqlTool', 'server'] as const) {
      const output = join(partial, NAMES[name])
      await run('go', ['build', '-trimpath', '-ldflags=-s -w', '-o', output, PACKAGES[name]], {
        cwd: MODULE,
        env: { ...process.env, CGO_ENABLED: '0' },
        timeout: BUILD_TIMEOUT_MS,
        maxBuffer: OUTPUT_MAX_BYTES,
        ...(signal === undefined ? {} : { signal }),
      })
      renameSync(output, programs[name])
    }
    return programs
  } catch (cause) {
    const { stderr = '' } = cause as { stderr?: string }
    const reason = stderr.trim().split('\n').at(-1) || reasonOf(cause)
    throw new CommandFailure('temporal_missing', `Go could not build the Temporal server (${reason}): try again, or ${OTHER_WAYS}`, {
      cause,
    })
  } finally {
    if (partial !== undefined) rmSync(partial, { recursive: true, force: true })
  }
}
