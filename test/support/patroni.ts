import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, cpSync, existsSync, globSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import pg from 'pg'
import { freePort } from '../../cli/embedded/ports.ts'
import { unprivilegedUser, type SystemUser } from '../../cli/embedded/postgres-home.ts'
import { readConfig } from '../../config/index.ts'
import { eventually } from './eventually.ts'
import { pythonFolder } from './python.ts'
import { createScratch } from './scratch.ts'

const PASSWORD = 'of-the-test-suite'
const DATABASE = 'tidings'
const STARTS_WITHIN_MS = 180_000
const ASKED_MS = 5000

/** What a cluster of the test's own is made of. */
export interface ClusterPrograms {
  /** A virtual environment with Patroni and a Postgres that has `pg_basebackup` and `pg_rewind`. */
  readonly python: string
  readonly etcd: string
}

/** Why a test that needs them skips. */
export const NO_CLUSTER_PROGRAMS =
  'the Python programs of .ci/requirements.txt are not installed, or etcd is neither on the PATH nor built: .ci/run does it'

const POSTGRES_BIN = 'embedded_postgres/pginstall/bin'

/** Where the environment has a Postgres; undefined where it has none. */
const sitePackages = (python: string): string | undefined =>
  globSync(join(python, 'lib/python*/site-packages')).find((folder) => existsSync(join(folder, POSTGRES_BIN)))

/** @returns undefined where one of them is missing; `TIDINGS_TEST_PATRONI` names another Python environment, `TIDINGS_TEST_ETCD` the etcd */
export function clusterPrograms(): ClusterPrograms | undefined {
  const python = process.env['TIDINGS_TEST_PATRONI'] ?? pythonFolder()
  const cache = readConfig().cacheDir ?? join(homedir(), '.cache', 'tidings')
  const places = [...(process.env['PATH'] ?? '').split(delimiter), join(cache, 'etcd')].map((folder) => join(folder, 'etcd'))
  const etcd = process.env['TIDINGS_TEST_ETCD'] ?? places.find((path) => existsSync(path))
  if (python === undefined || etcd === undefined) return undefined
  return existsSync(join(python, 'bin', 'patroni')) && sitePackages(python) !== undefined ? { python, etcd } : undefined
}

/** How the programs are run. */
interface Runnable {
  /** Patroni, without the file that it is given. */
  readonly patroni: readonly [string, ...string[]]
  readonly postgresBin: string
  /** Of the folders, and of whoever runs Postgres; undefined: who runs the test. */
  readonly user: SystemUser | undefined
}

/**
 * Postgres does not run as root: as root another user runs it, and Patroni, which may be in a home that others cannot look into.
 * Python is allowed to; Postgres looks at its programs by the user's own rights, so they are copied.
 */
function runnable({ python }: ClusterPrograms, folder: string): Runnable {
  const patroni = [join(python, 'bin', 'python'), '-m', 'patroni'] as const
  const packages = sitePackages(python)!
  if (process.getuid?.() !== 0) return { patroni, postgresBin: join(packages, POSTGRES_BIN), user: undefined }
  const user = unprivilegedUser()
  for (const part of globSync('embedded_postgres{,.libs}', { cwd: packages })) {
    cpSync(join(packages, part), join(folder, part), { recursive: true, verbatimSymlinks: true })
  }
  const rights = ['--inh-caps=+dac_override', '--ambient-caps=+dac_override']
  const dropped = ['setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups', ...rights, '--'] as const
  return { patroni: [...dropped, ...patroni], postgresBin: join(folder, POSTGRES_BIN), user }
}

interface Member {
  readonly name: string
  readonly port: number
  /** Patroni and its Postgres, as `kill -9` of the machine. */
  kill(): Promise<void>
  start(): void
}

/** Three members under Patroni, with one etcd. */
export interface PatroniCluster {
  readonly urls: readonly string[]
  readonly members: readonly Member[]
  /** Waits for a member that is writable. */
  leader(): Promise<Member>
  /** Waits until all members are there, and each standby has the slots of so many regions. */
  complete(regions: number): Promise<void>
  stop(): Promise<void>
}

export async function startPatroniCluster(programs: ClusterPrograms): Promise<PatroniCluster> {
  const scratch = createScratch('patroni')
  const { patroni, postgresBin: bin, user } = runnable(programs, scratch.path)
  const folderOf = (name: string) => {
    const folder = join(scratch.path, name)
    mkdirSync(folder, { mode: 0o700 })
    if (user !== undefined) chownSync(folder, user.uid, user.gid)
    return folder
  }
  const launch = ([command, ...args]: readonly [string, ...string[]], log: string): ChildProcess => {
    const out = openSync(log, 'a')
    const env = { PATH: process.env['PATH'], LC_ALL: 'C', HOME: scratch.path }
    const child = spawn(command, args, { cwd: scratch.path, env, stdio: ['ignore', out, out] })
    // What cannot be started is seen by what waits for it.
    child.on('error', () => undefined)
    process.once('exit', () => child.kill('SIGKILL'))
    return child
  }
  const etcdPort = await freePort()
  const etcdFolder = folderOf('etcd')
  const etcd = launch([programs.etcd, ...etcdArguments(etcdFolder, etcdPort, await freePort())], join(scratch.path, 'etcd.log'))
  const members: Member[] = []
  for (const name of ['one', 'two', 'three']) {
    const ports = { postgres: await freePort(), rest: await freePort() }
    const folder = folderOf(name)
    const file = join(folder, 'patroni.json')
    writeFileSync(file, JSON.stringify(configurationOf(name, { folder, etcdPort, ports, bin })))
    if (user !== undefined) chownSync(file, user.uid, user.gid)
    const log = join(scratch.path, `${name}.log`)
    members.push(createMember(name, ports.postgres, folder, () => launch([...patroni, file], log)))
  }
  const stop = async () => {
    for (const member of members) await member.kill()
    etcd.kill('SIGKILL')
    scratch.remove()
  }
  try {
    members[0]!.start()
    await leaderOf(members)
    for (const member of members.slice(1)) member.start()
    await createDatabase(members[0]!.port)
    await haveAll(members)
  } catch (cause) {
    const said = readFileSync(join(scratch.path, 'one.log'), 'utf8').split('\n').slice(-30).join('\n')
    await stop()
    throw new Error(`the cluster does not start; its first member: ${said}`, { cause })
  }
  return {
    urls: members.map(({ port }) => addressOf(port, DATABASE)),
    members,
    leader: () => leaderOf(members),
    async complete(regions) {
      await haveAll(members)
      await haveSlots(members, regions)
    },
    stop,
  }
}

const addressOf = (port: number, database: string) => `postgres://postgres:${PASSWORD}@127.0.0.1:${port}/${database}`

function etcdArguments(folder: string, port: number, peerPort: number): string[] {
  const [client, peer] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${peerPort}`]
  const listens = ['--listen-client-urls', client, '--advertise-client-urls', client, '--listen-peer-urls', peer]
  return ['--name', 'etcd', '--data-dir', folder, ...listens, '--initial-advertise-peer-urls', peer, '--initial-cluster', `etcd=${peer}`]
}

interface MemberOptions {
  readonly folder: string
  readonly etcdPort: number
  readonly ports: { readonly postgres: number; readonly rest: number }
  readonly bin: string
}

/** As docs/regions.md says; short times, because the test waits for them. */
function configurationOf(name: string, { folder, etcdPort, ports, bin }: MemberOptions): object {
  const login = (username: string) => ({ username, password: PASSWORD })
  const parameters = {
    wal_level: 'logical',
    hot_standby_feedback: 'on',
    sync_replication_slots: 'on',
    synchronized_standby_slots: 'tidings_quorum',
    synchronous_commit: 'remote_apply',
    max_connections: 60,
    shared_buffers: '32MB',
    wal_keep_size: '64MB',
  }
  return {
    scope: 'configuration',
    name,
    restapi: { listen: `127.0.0.1:${ports.rest}`, connect_address: `127.0.0.1:${ports.rest}` },
    etcd3: { host: `127.0.0.1:${etcdPort}` },
    bootstrap: {
      dcs: {
        ttl: 20,
        loop_wait: 1,
        retry_timeout: 5,
        primary_start_timeout: 0,
        synchronous_mode: 'quorum',
        synchronous_mode_strict: true,
        synchronous_node_count: 1,
        slots: { tidings_quorum: { type: 'physical' } },
        postgresql: { use_pg_rewind: true, use_slots: true, parameters },
      },
      initdb: [{ encoding: 'UTF8' }, { locale: 'C' }, 'data-checksums'],
    },
    postgresql: {
      listen: `127.0.0.1:${ports.postgres}`,
      connect_address: `127.0.0.1:${ports.postgres}`,
      data_dir: join(folder, 'data'),
      pgpass: join(folder, 'pgpass'),
      basebackup: [{ checkpoint: 'fast' }],
      bin_dir: bin,
      authentication: { superuser: login('postgres'), replication: login('replicator'), rewind: login('rewinder') },
      pg_hba: ['host all all 127.0.0.1/32 scram-sha-256', 'host replication all 127.0.0.1/32 scram-sha-256'],
      parameters: { unix_socket_directories: folder },
    },
  }
}

function createMember(name: string, port: number, folder: string, launch: () => ChildProcess): Member {
  let patroni: ChildProcess | undefined
  return {
    name,
    port,
    start() {
      patroni = launch()
    },
    async kill() {
      if (patroni === undefined) return
      const ended = patroni.exitCode === null && patroni.signalCode === null ? once(patroni, 'exit') : Promise.resolve()
      patroni.kill('SIGKILL')
      await ended
      patroni = undefined
      const file = join(folder, 'data', 'postmaster.pid')
      const postmaster = existsSync(file) ? Number(readFileSync(file, 'utf8').split('\n')[0]) : 0
      if (postmaster > 0) await killed(postmaster)
    },
  }
}

async function killed(pid: number): Promise<void> {
  const runs = () => {
    try {
      process.kill(pid, 'SIGKILL')
      return true
    } catch {
      return false
    }
  }
  await eventually(
    () => Promise.resolve(runs()),
    (yes) => !yes,
  )
}

async function leaderOf(members: readonly Member[]): Promise<Member> {
  const found = await eventually(
    async () => {
      const writable = await Promise.all(members.map((member) => isWritable(member.port)))
      return members.find((_, i) => writable[i])
    },
    (one) => one !== undefined,
    STARTS_WITHIN_MS,
  )
  return found!
}

async function isWritable(port: number): Promise<boolean> {
  const client = new pg.Client({
    connectionString: addressOf(port, 'postgres'),
    connectionTimeoutMillis: ASKED_MS,
    query_timeout: ASKED_MS,
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    const { rows } = await client.query<{ standby: boolean }>('SELECT pg_is_in_recovery() AS standby')
    return rows[0]?.standby === false
  } catch {
    return false
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function ask(port: number, text: string): Promise<number> {
  const client = new pg.Client({
    connectionString: addressOf(port, 'postgres'),
    connectionTimeoutMillis: ASKED_MS,
    query_timeout: ASKED_MS,
  })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return (await client.query<{ count: number }>(text)).rows[0]!.count
  } catch {
    return 0
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function haveAll(members: readonly Member[]): Promise<void> {
  await eventually(
    async () => ask((await leaderOf(members)).port, `SELECT count(*)::int AS count FROM pg_stat_replication WHERE sync_state = 'quorum'`),
    (count) => count === members.length - 1,
    STARTS_WITHIN_MS,
  )
}

async function haveSlots(members: readonly Member[], regions: number): Promise<void> {
  await eventually(
    () =>
      Promise.all(
        members.map(({ port }) => ask(port, 'SELECT count(*)::int AS count FROM pg_replication_slots WHERE failover AND NOT temporary')),
      ),
    (counts) => counts.every((count) => count === regions),
    STARTS_WITHIN_MS,
  )
}

async function createDatabase(port: number): Promise<void> {
  const client = new pg.Client({ connectionString: addressOf(port, 'postgres') })
  await client.connect()
  await client.query(`CREATE DATABASE ${DATABASE}`)
  await client.end()
}
