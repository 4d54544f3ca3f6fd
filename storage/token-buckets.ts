import { allot, waitMs, type Rate } from '../domain/token-bucket.ts'
import { createGroupCommit, createLine } from './group-commit.ts'
import type { Pool } from './pool.ts'

/** Rates that all workers share. */
export interface TokenBuckets {
  /**
   * Takes a token of each bucket, or none.
   * @param rates one at least
   * @param behind an endpoint whose waiting deliveries go first: while some of them are due nothing is taken
   * @returns undefined with the tokens, else milliseconds to wait
   */
  take(rates: readonly Rate[], behind?: string): Promise<number | undefined>
}

interface Ask {
  readonly rates: readonly Rate[]
  readonly behind: string | undefined
}

const ASKS_PER_STATEMENT = 1000

// A bucket that is not there is full. Its row says what was granted, because RETURNING has the new values only.
const TAKE = `
WITH asked AS (
  SELECT * FROM unnest($1::text[], $2::text[], $3::int[]) AS t (key, behind, wanted)
), behind AS (
  SELECT endpoint_id FROM mailbox WHERE endpoint_id IN (SELECT behind FROM asked) AND NOT idle AND wake_at <= now()
), wanted AS (
  SELECT key, coalesce(sum(wanted) FILTER (WHERE NOT EXISTS (SELECT FROM behind WHERE endpoint_id = asked.behind)), 0) AS wanted
  FROM asked GROUP BY key
), buckets AS (
  SELECT * FROM unnest($4::text[], $5::float8[], $6::float8[], $7::int[]) AS t (key, per_second, burst, returned) JOIN wanted USING (key)
), taken AS (
  INSERT INTO token_bucket AS b (key, tokens, at, granted)
  SELECT key, burst - least(floor(burst), wanted), now(), least(floor(burst), wanted) FROM buckets ORDER BY key
  ON CONFLICT (key) DO UPDATE SET (tokens, at, granted) = (
    SELECT has - least(floor(has), wanted), greatest(b.at, now()), least(floor(has), wanted)
    FROM (
      SELECT wanted, least(burst, b.tokens + returned + per_second * greatest(0, extract(epoch FROM now() - b.at)::float8)) AS has
      FROM buckets WHERE key = b.key
    ) AS bucket)
  RETURNING key, tokens, granted
)
SELECT key, tokens, granted FROM taken UNION ALL SELECT endpoint_id, NULL, NULL FROM behind`

interface Taken {
  readonly key: string
  /** Null: not a bucket, but an endpoint with deliveries that are due. */
  readonly tokens: number | null
  readonly granted: number | null
}

export function createTokenBuckets(pool: Pool): TokenBuckets {
  // Tokens of one bucket that were granted to somebody who did not get those of another.
  let unused = new Map<string, number>()
  const asks = createGroupCommit<Ask, number | undefined>({
    max: ASKS_PER_STATEMENT,
    queue: createLine(),
    onPassingFault: 'retry',
    async write(items) {
      const rates = new Map(items.flatMap((item) => item.rates.map((rate) => [rate.key, rate] as const)))
      const taken = await takeTokens(pool, items, rates, unused)
      unused = new Map()
      const held = new Set(taken.filter(({ tokens }) => tokens === null).map(({ key }) => key))
      const left = new Map(taken.map(({ key, tokens }) => [key, tokens ?? 0]))
      const granted = new Map(taken.map(({ key, granted: count }) => [key, count ?? 0]))
      const waits = allotted(items, held, granted, left)
      for (const [key, count] of granted) if (count > 0) unused.set(key, count)
      return waits
    },
  })
  return { take: (rates, behind) => asks.add({ rates, behind }) }
}

async function takeTokens(
  pool: Pool,
  items: readonly Ask[],
  rates: ReadonlyMap<string, Rate>,
  unused: ReadonlyMap<string, number>,
): Promise<Taken[]> {
  const wanted = new Map<string, { key: string; behind: string | null; count: number }>()
  for (const { rates: own, behind } of items) {
    for (const { key } of own) {
      const name = `${key} ${behind ?? ''}`
      const known = wanted.get(name)
      if (known === undefined) wanted.set(name, { key, behind: behind ?? null, count: 1 })
      else known.count++
    }
  }
  const buckets = [...rates.values()]
  const { rows } = await pool.query<Taken>({
    name: 'tokens-take',
    text: TAKE,
    values: [
      [...wanted.values()].map(({ key }) => key),
      [...wanted.values()].map(({ behind }) => behind),
      [...wanted.values()].map(({ count }) => count),
      buckets.map(({ key }) => key),
      buckets.map(({ perSecond }) => perSecond),
      buckets.map(({ burst }) => burst),
      buckets.map(({ key }) => unused.get(key) ?? 0),
    ],
  })
  return rows
}

/** @returns for each undefined where it has its tokens, else how long to wait: each that waits for a bucket after the one before */
function allotted(
  items: readonly Ask[],
  held: ReadonlySet<string>,
  granted: Map<string, number>,
  left: ReadonlyMap<string, number>,
): (number | undefined)[] {
  const free = items.filter(({ behind }) => behind === undefined || !held.has(behind))
  const allowed = allot(
    free.map(({ rates }) => rates),
    granted,
  )
  const may = new Set(free.filter((_, i) => allowed[i]))
  const waiting = new Map<string, number>()
  return items.map((item) => {
    if (may.has(item)) return undefined
    if (item.behind !== undefined && held.has(item.behind)) return 0
    const waits = item.rates.map((rate) => {
      const has = (left.get(rate.key) ?? 0) + (granted.get(rate.key) ?? 0)
      const position = waiting.get(rate.key) ?? 0
      if (has < position + 1) waiting.set(rate.key, position + 1)
      return waitMs(has, position, rate)
    })
    return Math.max(...waits)
  })
}
