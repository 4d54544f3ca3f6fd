import { relative } from 'node:path'
import { readConfig } from '../config/index.ts'
import { workerPrice, type Prices } from '../domain/capacity-prices.ts'
import { adviseOnEndpoints } from '../domain/endpoint-advice.ts'
import { adviseOnPool } from '../domain/right-sizing.ts'
import { createPool } from '../storage/pool.ts'
import { readEndpointUse, readPoolUse } from '../storage/utilisation-history.ts'
import { formatAdvice, type AdviceReport } from './advise/report.ts'
import { readOptions, runCommand } from './command.ts'
import { databaseUrlOf } from './data-dir.ts'
import { CommandFailure, reasonOf } from './failure.ts'
import { EXAMPLE_PRICES, readCosts, readPriceFile } from './plan/files.ts'

const HELP = `npm run --silent advise -- [options]

Tells what recorded use would save: fewer workers, fewer at night, reserved and spot machines, endpoints in the wrong lane, and
endpoints to batch, each with USD a month. Only reads DATABASE_URL (else the database of npm start here), for a few seconds.
  --since <time>   how far back: 12h, 7d, 4w (7d)
  --prices <file>  prices in USD a month and sizes of machines (deploy/prices.json, examples)
  --costs <file>   a run of npm run bench, or unit costs by name (the newest in bench/results/)
  --json           everything, as JSON`

const UNITS_MS: Readonly<Record<string, number>> = { h: 3_600_000, d: 86_400_000, w: 604_800_000 }
const SINCE_MAX_MS = 90 * 86_400_000
const UNDEFINED_TABLE = '42P01'

await runCommand({
  help: HELP,
  async main(args) {
    const options = readOptions(args, {
      since: { type: 'string' },
      prices: { type: 'string' },
      costs: { type: 'string' },
      json: { type: 'boolean' },
    })
    const until = new Date()
    const since = new Date(until.getTime() - spanOf(options.since ?? '7d'))
    const report = await adviceOf({ since, until }, options.prices, options.costs)
    process.stdout.write(options.json === true ? `${JSON.stringify(report, null, 2)}\n` : formatAdvice(report))
    return 0
  },
})

function spanOf(text: string): number {
  const [, count, unit] = /^(\d{1,5})([hdw])$/.exec(text) ?? []
  const ms = Number(count) * (UNITS_MS[unit ?? ''] ?? NaN)
  if (!(ms > 0 && ms <= SINCE_MAX_MS))
    throw new CommandFailure('usage', `--since ${text}: must be hours, days or weeks, such as 12h, 7d or 4w, 90 days at most`)
  return ms
}

async function adviceOf(
  range: { readonly since: Date; readonly until: Date },
  priceFile: string | undefined,
  costFile: string | undefined,
): Promise<AdviceReport> {
  const prices = readPriceFile(priceFile)
  const { costs } = readCosts(costFile)
  const config = readConfig()
  const { pools, endpoints } = await readUse(databaseUrlOf(config), range)
  const worker = workerPrice(prices)
  const advised = pools.map(({ pool, samples, hours }) => ({ pool, samples, ...adviseOnPool(hours, sizingPrices(prices)) }))
  const moves = adviseOnEndpoints(endpoints, { costs, worker, inFlight: config.laneRequests.fast, slowSlots: config.laneSlots.slow })
  const savings = [...advised.flatMap(({ advice = [] }) => advice), ...moves].map(({ saving }) => Math.max(0, saving))
  return {
    since: range.since.toISOString(),
    until: range.until.toISOString(),
    prices: { source: priceFile ?? `${relative('.', EXAMPLE_PRICES)}, examples`, worker },
    pools: advised,
    endpoints: moves,
    saving: savings.reduce((sum, one) => sum + one, 0),
  }
}

function sizingPrices(prices: Prices) {
  return { worker: workerPrice(prices), spotDiscount: prices.spotDiscount, reservedDiscount: prices.reservedDiscount }
}

async function readUse(url: string, range: { readonly since: Date; readonly until: Date }) {
  const pool = createPool(url, 2)
  try {
    const [pools, endpoints] = await Promise.all([readPoolUse(pool, range.since), readEndpointUse(pool, range)])
    return { pools, endpoints }
  } catch (cause) {
    const { code } = cause as { code?: unknown }
    if (code === UNDEFINED_TABLE)
      throw new CommandFailure('usage', 'the database has no tables of this version: start a worker or npm start first', { cause })
    throw new CommandFailure(
      'postgres_failed',
      `Postgres at ${new URL(url).host} cannot be read (${reasonOf(cause)}): start it, or set DATABASE_URL`,
      {
        cause,
      },
    )
  } finally {
    await pool.end()
  }
}
