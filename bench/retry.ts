import pg from 'pg'
import { wallOffsetMs } from './clock.ts'
import { arrivalMs, arrivalsOf, type Ledger } from './ledger.ts'
import type { Lateness } from './result.ts'
import { distributionOf } from './statistics.ts'

interface Attempt {
  readonly messageId: string
  readonly endpointId: string
  readonly url: string
  readonly eventId: string
  readonly leftMs: number
  /** NaN: none follows. */
  readonly nextAtMs: number
}

interface Retry {
  /** From 1. */
  readonly number: number
  /** When the attempt before had been made, Unix ms. */
  readonly sinceMs: number
  readonly dueMs: number
  readonly leftMs: number
  readonly arrivedMs: number | undefined
}

/**
 * Compares the retries of an application with the times that were recorded for them.
 * @param urls of the endpoints, in the ledger's order
 */
export async function measureLateness(databaseUrl: string, appId: string, ledger: Ledger, urls: readonly string[]): Promise<Lateness> {
  const retries = retriesOf(await readAttempts(databaseUrl, appId), ledger, urls)
  const numbers = [...new Set(retries.map(({ number }) => number))].sort((a, b) => a - b)
  const left = (some: readonly Retry[]) => distributionOf(some.map(({ leftMs, dueMs }) => leftMs - dueMs))
  return {
    retries: retries.length,
    waiting_max: mostAtOnce(retries),
    due_per_s_max: mostInOneSecond(retries.map(({ dueMs }) => dueMs)),
    left: left(retries),
    arrived: distributionOf(retries.flatMap(({ arrivedMs, dueMs }) => (arrivedMs === undefined ? [] : [arrivedMs - dueMs]))),
    left_by_retry: numbers.map((number) => left(retries.filter((retry) => retry.number === number))),
  }
}

async function readAttempts(databaseUrl: string, appId: string): Promise<Attempt[]> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  try {
    const { rows } = await client.query<{
      message_id: string
      endpoint_id: string
      url: string
      event_id: string
      left_ms: number
      next_ms: number | null
    }>(
      `SELECT a.message_id, a.endpoint_id, a.url, m.event_id, extract(epoch FROM a.created_at)::float8 * 1000 AS left_ms,
        extract(epoch FROM a.next_attempt_at)::float8 * 1000 AS next_ms
      FROM message m JOIN attempt a ON a.message_id = m.id WHERE m.app_id = $1
      ORDER BY a.message_id, a.endpoint_id, a.created_at, a.id`,
      [appId],
    )
    return rows.map((row) => ({
      messageId: row.message_id,
      endpointId: row.endpoint_id,
      url: row.url,
      eventId: row.event_id,
      leftMs: row.left_ms,
      nextAtMs: row.next_ms ?? NaN,
    }))
  } finally {
    await client.end()
  }
}

/** @param attempts sorted by delivery and time */
function retriesOf(attempts: readonly Attempt[], ledger: Ledger, urls: readonly string[]): Retry[] {
  const endpoints = new Map(urls.map((url, i) => [url, i]))
  const offsetMs = wallOffsetMs()
  const retries: Retry[] = []
  let number = 0
  for (const [i, attempt] of attempts.entries()) {
    const before = attempts[i - 1]
    const follows = before?.messageId === attempt.messageId && before.endpointId === attempt.endpointId
    number = follows ? number + 1 : 0
    if (!follows || Number.isNaN(before.nextAtMs)) continue
    // The run's event ids end with the message's number.
    const message = Number(attempt.eventId.slice(attempt.eventId.lastIndexOf('-') + 1))
    const endpoint = endpoints.get(attempt.url)
    const arrived = endpoint !== undefined && number < ledger.kept && arrivalsOf(ledger, endpoint, message) > number
    retries.push({
      number,
      sinceMs: before.leftMs,
      dueMs: before.nextAtMs,
      leftMs: attempt.leftMs,
      arrivedMs: arrived ? arrivalMs(ledger, endpoint, message, number) + offsetMs : undefined,
    })
  }
  return retries
}

function mostAtOnce(retries: readonly Retry[]): number {
  const changes = retries.flatMap(({ sinceMs, leftMs }) => [
    { atMs: sinceMs, by: 1 },
    { atMs: leftMs, by: -1 },
  ])
  changes.sort((a, b) => a.atMs - b.atMs || a.by - b.by)
  let waiting = 0
  return changes.reduce((most, { by }) => Math.max(most, (waiting += by)), 0)
}

function mostInOneSecond(timesMs: readonly number[]): number {
  const seconds = new Map<number, number>()
  for (const timeMs of timesMs) {
    const second = Math.floor(timeMs / 1000)
    seconds.set(second, (seconds.get(second) ?? 0) + 1)
  }
  return Math.max(0, ...seconds.values())
}
