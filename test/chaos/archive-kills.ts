import assert from 'node:assert/strict'
import { setTimeout as delay } from 'node:timers/promises'
import type { TestContext } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import { dayOf, type ArchiveManifest, type ArchivePart } from '../../domain/archive.ts'
import { FAN_OUT_TASK_QUEUE } from '../../domain/names.ts'
import type { RetentionResult } from '../../domain/retention.ts'
import { lockNameOf } from '../../storage/archive/erase.ts'
import { readManifest } from '../../storage/archive/manifests.ts'
import { openObjectStore, type ArchiveSettings } from '../../storage/archive/open-store.ts'
import { listDayTables } from '../../storage/partitions.ts'
import type { RunningProcess } from '../support/processes.ts'
import { DAY_MS, fillOldDays } from './old-days.ts'
import { publishDuring } from './scenario.ts'
import { setStage, type Stage } from './stage.ts'

/** Days of which nothing is kept, and days of which everything is but what succeeded. */
const OLD_DAYS = 6
const KEPT_DAYS = 3
const ROWS_PER_DAY = 3000
/** Such as does not compress to nothing: a day takes a second or more to archive. */
const PAYLOAD = `(SELECT string_agg(md5(n || ':' || i), '') FROM generate_series(1, 60) i)`
/** How long after the archiving of a part has begun its process is killed. */
const KILLS_AFTER_MS = [0, 250, 500, 1000]
const PER_SECOND = 20

const environmentOf = ({ url, endpoint, region, credentials }: ArchiveSettings): Record<string, string> => ({
  TIDINGS_ARCHIVE_URL: url,
  ...(endpoint === undefined ? {} : { AWS_ENDPOINT_URL_S3: endpoint }),
  ...(region === undefined ? {} : { AWS_REGION: region }),
  ...(credentials === undefined ? {} : { AWS_ACCESS_KEY_ID: credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey }),
})

/** The retention archives and drops days under load, while its process is killed again and again; then all rows are accounted for. */
export async function archiveAndKill(t: TestContext, settings: ArchiveSettings): Promise<void> {
  const stage = await setStage({ env: environmentOf(settings) })
  const connection = await Connection.connect({ address: stage.temporal.address })
  try {
    const [dispatcher] = await Promise.all([stage.startWorker('dispatcher'), stage.startApi(), stage.startWorker('delivery')])
    const todayMs = Math.floor(Date.now() / DAY_MS) * DAY_MS
    const old = { todayMs, rowsPerDay: ROWS_PER_DAY, payload: PAYLOAD }
    await fillOldDays(stage.pool, { ...old, fromDay: 92, days: OLD_DAYS })
    await fillOldDays(stage.pool, { ...old, fromDay: 40, days: KEPT_DAYS })
    for (const table of ['message', 'attempt']) await stage.pool.query(`CREATE TABLE everything_${table} AS SELECT * FROM ${table}`)
    const client = new Client({ connection, namespace: stage.temporal.namespace })
    await publishDuring(t, stage, PER_SECOND, () => retainAndKill(t, stage, client, { settings, todayMs, dispatcher }))
    await checkAccount(t, stage, settings)
  } finally {
    await connection.close()
    await stage.close()
  }
}

interface Running {
  readonly settings: ArchiveSettings
  readonly todayMs: number
  readonly dispatcher: RunningProcess
}

async function retainAndKill(t: TestContext, stage: Stage, client: Client, running: Running): Promise<void> {
  const { settings, todayMs } = running
  let { dispatcher } = running
  const store = await openObjectStore(settings)
  const options = { workflowId: 'retention/killed', taskQueue: FAN_OUT_TASK_QUEUE, args: [{ atMs: Date.now() }] }
  const handle = await client.workflow.start('retention', options)
  let inTheMiddle = 0
  for (const afterMs of KILLS_AFTER_MS) {
    const part = await beingArchived(stage, todayMs)
    await delay(afterMs)
    await stage.end(dispatcher, 'SIGKILL')
    const isWhole = (await readManifest(store, part)) !== undefined
    if (!isWhole) inTheMiddle++
    t.diagnostic(`killed ${afterMs} ms after the begin of ${lockNameOf(part)}, which is ${isWhole ? 'archived' : 'not archived'}`)
    dispatcher = await stage.startWorker('dispatcher')
  }
  assert.ok(inTheMiddle >= 2, `${inTheMiddle} kills came in the middle of a part`)
  const { dropped, kept } = (await handle.result()) as RetentionResult
  assert.equal(new Set(dropped).size, 2 * OLD_DAYS + KEPT_DAYS)
  assert.deepEqual(kept, {})
  store.close()
}

/** The next part that a process has the lock of, and that is not archived. */
async function beingArchived({ pool }: Stage, todayMs: number): Promise<ArchivePart> {
  const days = [...Array(OLD_DAYS).keys()].map((n) => 92 + n).concat([...Array(KEPT_DAYS).keys()].map((n) => 40 + n))
  const parts = days.flatMap((ago) => {
    const day = dayOf(todayMs - ago * DAY_MS)
    return [
      { table: 'message', outcome: null, day },
      { table: 'attempt', outcome: 'success', day },
      { table: 'attempt', outcome: 'failure', day },
    ] as const
  })
  const text = `SELECT n AS name FROM unnest($1::text[]) n WHERE EXISTS (SELECT FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted
    AND (l.classid::bigint << 32) | l.objid::bigint = hashtextextended('tidings archive ' || n, 0))`
  for (const untilMs = Date.now() + 60_000; Date.now() < untilMs; await delay(5)) {
    const { rows } = await pool.query<{ name: string }>(text, [parts.map(lockNameOf)])
    const found = parts.find((part) => lockNameOf(part) === rows[0]?.name)
    if (found !== undefined) return found
  }
  throw new Error('nothing was archived in a minute')
}

async function command(stage: Stage, ...args: string[]): Promise<unknown> {
  const run = stage.command('cli/archive.ts', [...args, '--json'])
  assert.equal(await run.ended, 0, run.stderr())
  return JSON.parse(run.stdout())
}

async function checkAccount(t: TestContext, stage: Stage, settings: ArchiveSettings): Promise<void> {
  const report = (await command(stage, 'verify')) as { problems: string[]; rows: number; objects: number }
  assert.deepEqual(report.problems, [])
  assert.equal(report.rows, (3 * OLD_DAYS + KEPT_DAYS) * ROWS_PER_DAY)
  const { manifests } = (await command(stage, 'list')) as { manifests: ArchiveManifest[] }
  const named = new Set(manifests.flatMap(({ objects }) => objects.map(({ key }) => key)))
  assert.equal(named.size, report.objects)
  const store = await openObjectStore(settings)
  const left: string[] = []
  for await (const { key } of store.list('data/')) if (!named.has(key)) left.push(key)
  store.close()
  t.diagnostic(`${report.objects} objects, ${left.length} more that killed processes have left`)
  assert.ok(left.length <= KILLS_AFTER_MS.length)
  await command(stage, 'restore', '--name', 'all')
  const count = async (text: string) => (await stage.pool.query<{ n: number }>(`SELECT count(*) AS n FROM ${text}`)).rows[0]!.n
  for (const table of ['message', 'attempt']) {
    const both = `(SELECT t::text FROM ${table} t WHERE app_id = 'app_old' UNION ALL SELECT t::text FROM archive_all.${table} t)`
    assert.equal(await count(`(${both} EXCEPT ALL SELECT t::text FROM everything_${table} t) d`), 0, `${table}: more than there was`)
    assert.equal(await count(`(SELECT t::text FROM everything_${table} t EXCEPT ALL ${both}) d`), 0, `${table}: less than there was`)
  }
  assert.equal(await count(`message WHERE app_id = 'app_old'`), KEPT_DAYS * ROWS_PER_DAY)
  assert.equal(await count(`attempt WHERE app_id = 'app_old'`), KEPT_DAYS * ROWS_PER_DAY)
  assert.equal(await count(`attempt WHERE app_id = 'app_old' AND status = 0`), 0)
  const old = (await listDayTables(stage.pool)).filter(({ dayMs }) => dayMs < Date.now() - 91 * DAY_MS)
  assert.deepEqual(old, [])
}
