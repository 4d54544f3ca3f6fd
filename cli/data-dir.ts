import { randomBytes } from 'node:crypto'
import { existsSync, linkSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import type { Config } from '../config/index.ts'
import { birthOf, isRunning } from './embedded/process-table.ts'
import { CommandFailure, reasonOf } from './failure.ts'

export interface DataDir {
  /** Absolute. */
  readonly path: string
  /** Lets others use it. */
  release(): void
}

/**
 * Makes the data directory where there is none and takes it for this process alone.
 * @throws {CommandFailure} `data_dir_unusable`, `data_dir_locked`
 */
export function openDataDir(path: string): DataDir {
  const absolute = resolve(path)
  const lock = join(absolute, 'lock')
  const mine = join(absolute, `lock.${process.pid}`)
  const content = `${process.pid} ${birthOf(process.pid)}\n`
  try {
    mkdirSync(absolute, { recursive: true, mode: 0o755 })
    writeFileSync(mine, content)
  } catch (cause) {
    throw new CommandFailure(
      'data_dir_unusable',
      `the data directory ${absolute} cannot be written (${reasonOf(cause)}): make it writable, or set TIDINGS_DATA_DIR to another`,
      { cause },
    )
  }
  try {
    takeLock(lock, mine, absolute)
  } finally {
    rmSync(mine, { force: true })
  }
  return {
    path: absolute,
    release() {
      if (readText(lock) === content) rmSync(lock, { force: true })
    },
  }
}

/** A link appears with its content or not at all, so nobody reads a lock that is half written. */
function takeLock(lock: string, mine: string, directory: string): void {
  for (;;) {
    try {
      return linkSync(mine, lock)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
    }
    const holder = readText(lock)
    if (holder === undefined) continue
    const [pid = '0', ...birth] = holder.trim().split(' ')
    if (Number(pid) > 0 && isRunning(Number(pid)) && birthOf(Number(pid)) === birth.join(' ')) {
      throw new CommandFailure(
        'data_dir_locked',
        `another Tidings (process ${pid}) runs on the data directory ${directory}: stop it, or set TIDINGS_DATA_DIR to another`,
      )
    }
    removeStale(lock, `${mine}.stale`, holder)
  }
}

/** Between our look and the rename, another start may have replaced the lock with its own: then it gets it back. */
function removeStale(lock: string, aside: string, expected: string): void {
  try {
    renameSync(lock, aside)
    if (readText(aside) !== expected) linkSync(aside, lock)
  } catch {
    // Somebody else was quicker; the next look will tell.
  } finally {
    rmSync(aside, { force: true })
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

export interface Secrets {
  readonly jwtSecret: string
  readonly encryptionKey: string
}

/**
 * The secrets: configured, else kept in the data directory.
 * @param create whether what is missing is generated and kept
 * @throws {CommandFailure} `data_dir_unusable` where one is missing
 */
export function readSecrets(config: Config, dataDir: string, create: boolean): Secrets {
  return {
    jwtSecret: config.jwtSecret ?? keptSecret(dataDir, 'jwt-secret', 'TIDINGS_JWT_SECRET', create),
    encryptionKey: config.encryptionKey ?? keptSecret(dataDir, 'encryption-key', 'TIDINGS_ENCRYPTION_KEY', create),
  }
}

function keptSecret(dataDir: string, name: string, variable: string, create: boolean): string {
  const file = join(resolve(dataDir), name)
  try {
    if (create && !existsSync(file)) writeFileSync(file, `${randomBytes(32).toString('base64url')}\n`, { mode: 0o600, flag: 'wx' })
    return readFileSync(file, 'utf8').trim()
  } catch (cause) {
    throw new CommandFailure('data_dir_unusable', `no secret in ${file}: run npm start there first, or set ${variable}`, { cause })
  }
}

/** Where the service of a data directory is, for the commands that talk to it. */
export interface RunningService {
  readonly url: string
  readonly temporalUiUrl: string | undefined
  readonly namespace: string
}

const serviceFile = (dataDir: string) => join(resolve(dataDir), 'service.json')

/** Kept while the service runs. */
export function announceService(dataDir: string, service: RunningService): void {
  writeFileSync(serviceFile(dataDir), `${JSON.stringify(service)}\n`)
}

export function withdrawService(dataDir: string): void {
  rmSync(serviceFile(dataDir), { force: true })
}

/** What was announced last; the service may have been killed since. */
export function findService(dataDir: string): RunningService | undefined {
  const text = readText(serviceFile(dataDir))
  return text === undefined ? undefined : (JSON.parse(text) as RunningService)
}

/**
 * The database that is named, else the one that `npm start` keeps in the data directory.
 * @throws {CommandFailure} `usage` where there is neither
 */
export function databaseUrlOf({ databaseUrl, dataDir, postgresPort }: Pick<Config, 'databaseUrl' | 'dataDir' | 'postgresPort'>): string {
  if (databaseUrl !== undefined) return databaseUrl
  const file = join(resolve(dataDir), 'postgres.password')
  try {
    return `postgres://tidings:${readFileSync(file, 'utf8').trim()}@127.0.0.1:${postgresPort}/tidings`
  } catch (cause) {
    throw new CommandFailure('usage', `set DATABASE_URL: there is no database of npm start in ${resolve(dataDir)}`, { cause })
  }
}
