/**
 * Hit rates of the caches. `npm run bench:cache -- [applications] [seconds] [rates]` (100000, 660 and 500,2000 unless told).
 *
 * So many applications with an endpoint each are asked for by a Zipf distribution (exponent 1: the n-th most popular has 1/n of
 * the requests of the first), at each of the rates, in real seconds against a Postgres of our own and `redis-server`. The
 * first half warms up and is not counted. Each rate goes to a process whose entries are left to expire, to one that refreshes
 * them ahead, and, halved, to two such processes that share a Redis.
 */
import { mkdtempSync, chmodSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import pino from 'pino'
import { startPostgres } from '../cli/embedded/postgres.ts'
import { createCipher } from '../storage/cipher.ts'
import { createConfigCache, type ConfigCache, type ConfigCacheCounts } from '../storage/config-cache.ts'
import { migrate } from '../storage/migrate.ts'
import { createPool, type Pool } from '../storage/pool.ts'
import { createSharedCache } from '../storage/shared-cache.ts'
import { startRedis } from '../test/support/redis.ts'

const [applicationsGiven = '100000', secondsGiven = '660', ratesGiven = '500,2000'] = process.argv.slice(2)
const applications = Number(applicationsGiven)
const seconds = Number(secondsGiven)
const rates = ratesGiven.split(',').map(Number)
const TICK_MS = 10
const SAY_EVERY_MS = 60_000

const cipher = createCipher('a key for benchmarks, 32 characters or more')
const log = pino({ level: 'silent' })
const idOf = (n: number) => `app_${String(n).padStart(27, '0')}`

let over = false

/** Processes that share one stream of requests, each of which goes to one of them. */
interface Variant {
  readonly name: string
  readonly rate: number
  readonly caches: readonly ConfigCache[]
}

async function main(): Promise<void> {
  const dataDir = mkdtempSync(join(tmpdir(), 'tidings-bench-cache-'))
  chmodSync(dataDir, 0o755)
  const postgres = await startPostgres({ dataDir, port: 0 })
  const pool = createPool(postgres.url, 20)
  const redis = await startRedis()
  if (redis === undefined) process.stderr.write('redis-server is not on the path: the second level is not measured\n')
  try {
    await migrate(pool)
    process.stderr.write(`creating ${applications} applications\n`)
    await seed(pool)
    const variants = rates.flatMap((rate) => variantsOf(rate, pool, redis?.url))
    await measure(variants)
  } finally {
    over = true
    await redis?.stop()
    await pool.end()
    await postgres.stop()
    rmSync(dataDir, { recursive: true, force: true })
  }
}

async function seed(pool: Pool): Promise<void> {
  const id = `'app_' || lpad(n::text, 27, '0')`
  const endpoint = `'ep_' || lpad(n::text, 27, '0')`
  await pool.query(`INSERT INTO application (id, org_id, name) SELECT ${id}, 'org_bench', 'bench' FROM generate_series(0, $1::int - 1) n`, [
    applications,
  ])
  await pool.query(
    `INSERT INTO endpoint (id, app_id, url) SELECT ${endpoint}, ${id}, 'https://customer-' || n || '.example.com/webhooks' FROM generate_series(0, $1::int - 1) n`,
    [applications],
  )
  await pool.query(
    `INSERT INTO endpoint_secret (endpoint_id, secret_cipher) SELECT ${endpoint}, $2 FROM generate_series(0, $1::int - 1) n`,
    [applications, cipher.encrypt('whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw')],
  )
  await pool.query('ANALYZE')
}

function variantsOf(rate: number, pool: Pool, redisUrl: string | undefined): Variant[] {
  const base = { pool, cipher, log }
  const sharing = () => createConfigCache({ ...base, shared: createSharedCache(`${redisUrl}/${rates.indexOf(rate)}`, log) })
  return [
    { name: 'left to expire', rate, caches: [createConfigCache({ ...base, predicts: false })] },
    { name: 'refreshed ahead', rate, caches: [createConfigCache(base)] },
    ...(redisUrl === undefined ? [] : [{ name: 'two processes and Redis', rate, caches: [sharing(), sharing()] }]),
  ]
}

async function measure(variants: readonly Variant[]): Promise<void> {
  const draw = createZipf(applications)
  let before = variants.map(countsOf)
  const startMs = performance.now()
  const elapsedMs = () => performance.now() - startMs
  const asked = new Map(rates.map((rate) => [rate, 0]))
  let saidAtMs = 0
  let counts = false
  while (elapsedMs() < seconds * 1000) {
    for (const rate of rates) {
      const those = variants.filter((variant) => variant.rate === rate)
      const due = Math.floor((elapsedMs() / 1000) * rate)
      for (let turn = asked.get(rate)!; turn < due; turn++) askAll(those, turn, idOf(draw()))
      asked.set(rate, due)
    }
    if (!counts && elapsedMs() > seconds * 500) {
      counts = true
      before = variants.map(countsOf)
    }
    if (elapsedMs() - saidAtMs > SAY_EVERY_MS) {
      saidAtMs = elapsedMs()
      process.stderr.write(`${Math.round(saidAtMs / 1000)} s of ${seconds}\n`)
    }
    await delay(TICK_MS)
  }
  print(
    variants,
    variants.map((variant, i) => difference(before[i]!, countsOf(variant))),
    seconds / 2,
  )
}

function askAll(variants: readonly Variant[], turn: number, appId: string): void {
  for (const { caches } of variants) {
    const asking = caches[turn % caches.length]!.endpoints(appId)
    asking.catch((error: unknown) => {
      // What is under way at the end is not waited for.
      if (!over) process.stderr.write(`${String(error)}\n`)
    })
  }
}

interface Counts {
  readonly hits: number
  readonly misses: number
  readonly refreshes: number
  readonly sharedHits: number
  readonly sharedMisses: number
  readonly bytes: number
  readonly entries: number
}

function countsOf({ caches }: Variant): Counts {
  const all: ConfigCacheCounts[] = caches.map((cache) => cache.counts())
  const sum = (of: (counts: ConfigCacheCounts) => number) => all.reduce((total, one) => total + of(one), 0)
  return {
    hits: sum(({ endpoints }) => endpoints.hits),
    misses: sum(({ endpoints }) => endpoints.misses),
    refreshes: sum(({ endpoints }) => endpoints.refreshes),
    sharedHits: sum(({ shared }) => shared?.hits ?? 0),
    sharedMisses: sum(({ shared }) => (shared?.misses ?? 0) + (shared?.skipped ?? 0)),
    bytes: sum(({ endpoints }) => endpoints.bytes),
    entries: sum(({ endpoints }) => endpoints.entries),
  }
}

/** Bytes and entries are those of the end. */
function difference(before: Counts, after: Counts): Counts {
  const keys = ['hits', 'misses', 'refreshes', 'sharedHits', 'sharedMisses'] as const
  return { ...after, ...Object.fromEntries(keys.map((key) => [key, after[key] - before[key]])) }
}

/** Of what Redis was asked, hits for entries that were loaded ahead count like those for misses. */
function print(variants: readonly Variant[], counted: readonly Counts[], overS: number): void {
  const percent = (share: number) => `${(share * 100).toFixed(1)} %`
  const rows = variants.map(({ name, rate }, i) => {
    const { hits, misses, refreshes, sharedHits, sharedMisses, bytes, entries } = counted[i]!
    const memory = hits / (hits + misses)
    const asked = sharedHits + sharedMisses
    const both = asked === 0 ? '' : percent(memory + (1 - memory) * (sharedHits / asked))
    const fromPostgres = (asked === 0 ? misses + refreshes : sharedMisses) / overS
    return [rate, name, percent(memory), both, (refreshes / overS).toFixed(0), fromPostgres.toFixed(0), entries, (bytes / 1e6).toFixed(1)]
  })
  const heading = ['asked/s', 'entries are', 'in memory', 'or in Redis', 'refreshed/s', 'from Postgres/s', 'entries', 'MB']
  const line = (cells: readonly unknown[]) => `| ${cells.join(' | ')} |\n`
  process.stdout.write(line(heading) + line(heading.map(() => '---')) + rows.map(line).join(''))
}

/** @returns what draws numbers from 0, the n-th with 1/(n + 1) of the probability of the first */
function createZipf(count: number): () => number {
  const sums = new Float64Array(count)
  let total = 0
  for (let i = 0; i < count; i++) sums[i] = total += 1 / (i + 1)
  return () => {
    const wanted = Math.random() * total
    let [low, high] = [0, count - 1]
    while (low < high) {
      const middle = (low + high) >> 1
      if (sums[middle]! < wanted) low = middle + 1
      else high = middle
    }
    return low
  }
}

await main()
process.exit()
