/** What stored history costs: whether writing gets slower, what lists take, what a day's tables weigh and how they go. */
import { statfsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { pathToFileURL } from 'node:url'
import { describe, readOptions, runCommand } from '../cli/command.ts'
import { CommandFailure } from '../cli/failure.ts'
import { createProgress, type Progress } from '../cli/progress.ts'
import { createCleanup, stopRequested, type Cleanup } from '../cli/stopping.ts'
import { dayOf, idsOfDay } from '../domain/archive.ts'
import { archiveRange } from '../storage/archive/archive-range.ts'
import { openObjectStore } from '../storage/archive/open-store.ts'
import { createCipher } from '../storage/cipher.ts'
import { migrate } from '../storage/migrate.ts'
import { createDays, dropDay, listDayTables } from '../storage/partitions.ts'
import { createPool, type Pool } from '../storage/pool.ts'
import { readProgress } from '../storage/rollups.ts'
import { createScratch } from '../test/support/scratch.ts'
import { nowMs } from './clock.ts'
import { describeRun, nameOf, RESULTS_FOLDER, writeFiles } from './history.ts'
import { startOwnService, type OwnService } from './own-service.ts'
import { ENDPOINTS_EACH, openSeed } from './seed.ts'
import { createFiller, readPlaces, type Filler, type Place } from './storage-fill.ts'
import { measureReads } from './storage-reads.ts'
import { plotStorage, storageReport, type Drop, type Filled, type StorageRun, type Weight } from './storage-report.ts'

const HELP = `npm run bench:storage -- [options]

Fills a service of our own with attempts of past days, through what records deliveries, and tells whether that gets slower, what
lists and statistics take with all of it there, what a row weighs, and how long dropping a day takes. All traffic is on 127.0.0.1.

  --attempts N     50000000 unless told, in steps of a hundred; ${ENDPOINTS_EACH} to a message
  --days N         29 unless told: with 30 and more the retention drops some of it meanwhile
  --endpoints N    1000 unless told, ${ENDPOINTS_EACH} to an application
  --reads N        requests of each kind, 400 unless told
  --results DIR    bench/results unless told; --no-results: nowhere
  --hold           leaves the service running after it until Ctrl-C, to be looked at

Beside every tenth step the same is written into an empty database of the same server: what differs is not the machine's hour.`

const DAY_MS = 86_400_000
const STEPS = 50
const BESIDE_EVERY = 5
const BESIDE_SHARE = 0.1
/** A row of an attempt with its indexes and its share of a message, and what the log takes besides. */
const BYTES_EACH = 700
const DROPPED_DAYS = 5

interface Options {
  readonly attempts: number
  readonly days: number
  readonly endpoints: number
  readonly reads: number
  readonly results: string | undefined
  readonly hold: boolean
}

await runCommand({ help: HELP, main })

async function main(args: readonly string[]): Promise<number> {
  const options = readStorageOptions(args)
  const progress = createProgress()
  const cleanup = createCleanup((error) => process.stderr.write(`tidings: while stopping: ${describe(error)}\n`))
  const about = describeRun(new Date())
  const measuring = measure(options, cleanup, progress)
  try {
    const run = await Promise.race([stopRequested().then((reason) => progress.say(`stopping (${reason})`)), measuring])
    if (run === undefined) return 1
    process.stdout.write(storageReport(run))
    if (options.results !== undefined) {
      const json = `${JSON.stringify({ ...about, ...run }, null, 2)}\n`
      const path = writeFiles(options.results, `storage-${nameOf(new Date(about.start))}`, { json, svg: plotStorage(about.start, run) })
      progress.say(`written to ${path}, and as plots beside it`)
    }
    if (options.hold) await stopRequested()
    return 0
  } finally {
    measuring.catch(() => undefined)
    await cleanup.run()
  }
}

function readStorageOptions(args: readonly string[]): Options {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean', default: false } as const
  const flags = { 'no-results': flag, hold: flag }
  const given = readOptions(args, { attempts: text, days: text, endpoints: text, reads: text, results: text, ...flags })
  const number = (name: 'attempts' | 'days' | 'endpoints' | 'reads', otherwise: number, step = 1) => {
    const value = Number(given[name] ?? otherwise)
    if (!Number.isInteger(value) || value <= 0 || value % step !== 0)
      throw new CommandFailure('usage', `--${name} takes a multiple of ${step}`)
    return value
  }
  const options = {
    attempts: number('attempts', 50_000_000, STEPS * ENDPOINTS_EACH * 10),
    days: number('days', 29),
    endpoints: number('endpoints', 1000, ENDPOINTS_EACH),
    reads: number('reads', 400),
    results: given['no-results'] ? undefined : (given.results ?? RESULTS_FOLDER),
    hold: given.hold,
  }
  const { bavail, bsize } = statfsSync(tmpdir())
  if (options.attempts * BYTES_EACH > bavail * bsize) throw new CommandFailure('usage', `--attempts needs ${BYTES_EACH} bytes for each`)
  return options
}

async function measure(options: Options, cleanup: Cleanup, progress: Progress): Promise<StorageRun> {
  const starting = startOwnService()
  cleanup.add(async () => (await starting.catch(() => undefined))?.stop())
  const service = await progress.step('starting a service', () => starting)
  const pool = createPool(service.databaseUrl, 2)
  cleanup.add(() => pool.end())
  if (options.hold) progress.say(`the service is ${service.url}, its database ${service.databaseUrl}`)
  const measuring = measureService(options, service, pool, progress)
  measuring.catch(() => undefined)
  return Promise.race([measuring, service.died])
}

async function measureService(options: Options, service: OwnService, pool: Pool, progress: Progress): Promise<StorageRun> {
  const { databaseUrl } = service
  const seed = await openSeed(databaseUrl, service.encryptionKey)
  await seed.growEndpoints(options.endpoints)
  await seed.close()
  const places = await readPlaces(databaseUrl)
  const fromMs = Math.floor(Date.now() / DAY_MS) * DAY_MS - options.days * DAY_MS
  const span = { fromMs, toMs: fromMs + (options.days - 1) * DAY_MS }
  for (const parent of ['message', 'attempt'] as const) await createDays(pool, parent, span)
  const stepMs = (options.days * DAY_MS) / (options.attempts / ENDPOINTS_EACH)
  const beside = await openBeside(databaseUrl, places, { ...span, stepMs })
  const filler = createFiller(databaseUrl, places, { fromMs, stepMs, payloadBytes: 1024 })
  const filled = await fillAll(options.attempts / STEPS, filler, beside, progress)
  await filler.close()
  await progress.step('vacuuming, as autovacuum does after a while', () => pool.query('VACUUM (ANALYZE) message, attempt'))
  const rollupsS = await progress.step('rolling up', () => rollUpAll(pool, span))
  const reads = await progress.step('reading', () => measureReads(service, places, options.reads))
  const weights = await progress.step('weighing', () => weigh(pool, fromMs))
  return { attempts: options.attempts, days: options.days, filled, weights, rollupsS, reads, drops: await dropDays(pool) }
}

/** Writes some of the same into a database that has nothing. @returns attempts a second */
type Beside = (attempts: number) => Promise<number>

async function openBeside(
  databaseUrl: string,
  places: readonly Place[],
  { fromMs, toMs, stepMs }: { fromMs: number; toMs: number; stepMs: number },
): Promise<Beside> {
  const url = new URL(databaseUrl)
  url.pathname = '/beside'
  const own = createPool(databaseUrl, 1)
  await own.query('CREATE DATABASE beside')
  await own.end()
  const pool = createPool(url.href, 1)
  await migrate(pool)
  for (const parent of ['message', 'attempt'] as const) await createDays(pool, parent, { fromMs, toMs })
  await pool.end()
  return async (attempts) => {
    const empty = createPool(url.href, 1)
    await empty.query('TRUNCATE message, attempt')
    await empty.end()
    const filler = createFiller(url.href, places, { fromMs, stepMs, payloadBytes: 1024 })
    const rate = await filler.fill(attempts)
    await filler.close()
    return rate
  }
}

async function fillAll(step: number, filler: Filler, beside: Beside, progress: Progress): Promise<Filled[]> {
  const filled: Filled[] = []
  for (let n = 1; n <= STEPS; n++) {
    const isCompared = n === 1 || n % BESIDE_EVERY === 0
    const part = isCompared ? step * BESIDE_SHARE : 0
    // Half before and half after, so that both see the same hours of the machine.
    const before = isCompared ? await beside(part) : undefined
    const perS = await filler.fill(step)
    const after = isCompared ? await beside(part) : undefined
    const besidePerS = before === undefined || after === undefined ? undefined : (before + after) / 2
    filled.push({ attempts: n * step, perS, besidePerS })
    const compared = besidePerS === undefined ? '' : `, ${besidePerS.toFixed(0)} into an empty database`
    progress.say(`${((n * step) / 1e6).toFixed(2)} million attempts, ${perS.toFixed(0)} a second${compared}`)
  }
  return filled
}

/** Has the service's dispatcher roll all of it up. @returns seconds */
async function rollUpAll(pool: Pool, { fromMs, toMs }: { fromMs: number; toMs: number }): Promise<number> {
  const begin = nowMs()
  // Written long after they were made, all of them are marked to be counted anew.
  await pool.query('TRUNCATE rollup_late')
  await pool.query('UPDATE rollup_progress SET begins = to_timestamp($1::float8 / 1000), through = to_timestamp($1::float8 / 1000)', [
    fromMs,
  ])
  while ((await readProgress(pool)).throughMs < toMs + DAY_MS) await delay(500)
  return (nowMs() - begin) / 1000
}

/** Bytes of rows in tables and indexes, and of a day of them in the archive. */
async function weigh(pool: Pool, dayMs: number): Promise<Weight[]> {
  const archived = createScratch('bench-archive')
  const store = await openObjectStore({ url: pathToFileURL(archived.path).href })
  const cipher = createCipher('a key for benchmarks, 32 characters or more')
  const day = dayOf(dayMs)
  const suffix = day.replaceAll('-', '')
  const weights: Weight[] = []
  try {
    for (const [table, outcome, name] of [
      ['message', null, `message_${suffix}`],
      ['attempt', 'success', `attempt_${suffix}_delivered`],
      ['attempt', 'failure', `attempt_${suffix}_failed`],
    ] as const) {
      const { rows } = await pool.query<{ rows: number; table: number; indexes: number }>(
        `SELECT (SELECT count(*) FROM ${name})::float8 AS rows, pg_table_size($1::regclass)::float8 AS table, pg_indexes_size($1::regclass)::float8 AS indexes`,
        [name],
      )
      const owner = { region: 'local', zone: null }
      const { manifest } = await archiveRange({ pool, store, cipher, owner, table, outcome, day, ...idsOfDay(table, day), source: name })
      weights.push({ name: `${table} ${outcome ?? ''}`.trim(), ...rows[0]!, archived: manifest.bytes })
    }
  } finally {
    archived.remove()
  }
  return weights
}

async function dropDays(pool: Pool): Promise<Drop[]> {
  const all = await listDayTables(pool)
  const oldest = all.filter(({ parent, part }) => (parent === 'message' ? part === 'whole' : parent === 'attempt' && part !== 'whole'))
  const first = oldest.sort((a, b) => a.dayMs - b.dayMs).slice(0, DROPPED_DAYS * 3)
  const drops: Drop[] = []
  for (const table of first) {
    const { rows } = await pool.query<{ bytes: number }>('SELECT pg_total_relation_size($1::regclass)::float8 AS bytes', [table.name])
    const begin = nowMs()
    await dropDay(pool, table, Date.now() + 91 * DAY_MS)
    drops.push({ name: table.name, bytes: rows[0]!.bytes, ms: nowMs() - begin })
  }
  return drops
}
