/** The standby of a region's message data: physical streaming replication, asynchronous. */
import { execFile } from 'node:child_process'
import { chownSync, existsSync, readdirSync, renameSync, rmSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { createPool } from '../../storage/pool.ts'
import { promoteStandby, readReplication, readSlot, type ReplicationState } from '../../storage/replication.ts'
import { findPostgresHome, type SystemUser } from '../embedded/postgres-home.ts'
import { CommandFailure, reasonOf } from '../failure.ts'
import { requirePostgresTool } from './postgres-tools.ts'

const PROMOTED_WITHIN_S = 60
// A machine that has just lost another may be busy.
const CONNECT_TIMEOUT_MS = 15_000

export interface NewStandby {
  /** Address of the primary, with a user that may replicate and its password. */
  readonly primaryUrl: string
  /** Exists and is writable: where the standby and its log will be. It holds no cluster yet. */
  readonly dataDir: string
  /** By which the primary knows it: lower-case letters, digits and hyphens. */
  readonly name: string
  /** Folder of `pg_basebackup`; absent: it is looked for. */
  readonly tools?: string | undefined
  readonly cacheDir?: string | undefined
}

/** The slot that keeps what a standby has not received. */
export function slotOf(name: string): string {
  return `tidings_${name.replaceAll('-', '_')}`
}

/**
 * Copies a primary that runs, so that `startPostgres` on the same data directory runs a standby of it. It has a slot on the
 * primary, which keeps what the standby has not received: bound it with `max_slot_wal_keep_size`.
 * @throws {CommandFailure} `usage`, `postgres_failed`
 */
export async function createStandby({ primaryUrl, dataDir, name, tools, cacheDir }: NewStandby): Promise<void> {
  if (!/^[a-z0-9-]{1,40}$/.test(name))
    throw new CommandFailure('usage', `the standby's name ${name}: may have lower-case letters, digits and hyphens`)
  const home = findPostgresHome(dataDir)
  if (existsSync(join(home.cluster, 'PG_VERSION'))) throw new CommandFailure('usage', `${home.cluster} holds a cluster already`)
  const { major, slot } = await lookAtPrimary(primaryUrl, slotOf(name))
  const program = await requirePostgresTool('pg_basebackup', { folder: tools, cacheDir, major })
  const url = new URL(primaryUrl)
  const password = decodeURIComponent(url.password)
  url.password = ''
  url.searchParams.set('application_name', name)
  const partial = `${home.cluster}.new`
  rmSync(partial, { recursive: true, force: true })
  const args = ['-d', url.href, '-D', partial, '-R', '-X', 'stream', '-c', 'fast', '-S', slotOf(name), ...(slot ? [] : ['-C']), '-w']
  try {
    await promisify(execFile)(program, args, { cwd: '/', env: { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', PGPASSWORD: password } })
    if (home.user !== undefined) chownAll(partial, home.user)
    if (existsSync(home.cluster) && readdirSync(home.cluster).length === 0) rmdirSync(home.cluster)
    renameSync(partial, home.cluster)
  } catch (cause) {
    rmSync(partial, { recursive: true, force: true })
    throw new CommandFailure('postgres_failed', `${url.host} could not be copied: ${lastLine(cause)}`, { cause })
  }
  writeFileSync(join(dataDir, 'postgres.password'), password, { mode: 0o600 })
}

function lastLine(cause: unknown): string {
  const { stderr } = cause as { stderr?: string }
  return stderr?.trim().split('\n').at(-1) ?? reasonOf(cause)
}

function chownAll(path: string, user: SystemUser): void {
  chownSync(path, user.uid, user.gid)
  for (const entry of readdirSync(path, { withFileTypes: true, recursive: true })) {
    if (!entry.isSymbolicLink()) chownSync(join(entry.parentPath, entry.name), user.uid, user.gid)
  }
}

/** @returns its version, and whether a slot of that name is there and free */
async function lookAtPrimary(url: string, slotName: string): Promise<{ major: number; slot: boolean }> {
  return ask(url, async (pool) => {
    const slot = await readSlot(pool, slotName)
    if (slot?.active === true) throw new CommandFailure('usage', `a standby that runs uses the slot ${slotName} already`)
    const { rows } = await pool.query<{ version: string }>(`SELECT current_setting('server_version_num') AS version`)
    return { major: Math.floor(Number(rows[0]!.version) / 10_000), slot: slot !== undefined }
  })
}

/** How far behind a standby is: as it knows itself, or, asked of the primary, all of them. */
export function lagOf(url: string): Promise<ReplicationState> {
  return ask(url, readReplication)
}

/** @throws {CommandFailure} `usage` where it is no standby, `postgres_failed` */
export async function promote(url: string): Promise<void> {
  const promoted = await ask(url, (pool) => promoteStandby(pool, PROMOTED_WITHIN_S))
  if (!promoted) throw new CommandFailure('usage', `${new URL(url).host} is no standby, or was not promoted within ${PROMOTED_WITHIN_S} s`)
}

async function ask<T>(url: string, work: (pool: ReturnType<typeof createPool>) => Promise<T>): Promise<T> {
  const pool = createPool(url, 1, { connectMs: CONNECT_TIMEOUT_MS })
  try {
    return await work(pool)
  } catch (cause) {
    if (cause instanceof CommandFailure) throw cause
    throw new CommandFailure('postgres_failed', `Postgres at ${new URL(url).host} does not answer as it should: ${reasonOf(cause)}`, {
      cause,
    })
  } finally {
    await pool.end()
  }
}
