import { randomBytes, randomInt, randomUUID } from 'node:crypto'
import pg from 'pg'
import { newId } from '../domain/ids.ts'
import { STATUS_FAIL, STATUS_SUCCESS, TRIGGER_SCHEDULED } from '../domain/outcome.ts'
import { createPool, type Pool } from '../storage/pool.ts'
import { createRecorder, type Recorder } from '../storage/recorder.ts'
import type { AttemptRow, Record } from '../storage/records.ts'
import { nowMs } from './clock.ts'
import { ENDPOINTS_EACH } from './seed.ts'

const EVENT_TYPE = 'bench.event'
const FAILURES = 0.05
/** Records in hand: several full groups for each writer. */
const TOGETHER = 4000
/** As many processes that record at once. */
const WRITERS = 2

/** One application with the endpoints that all its messages go to. */
export interface Place {
  readonly appId: string
  readonly endpointIds: readonly string[]
}

/** Writes attempts as the service does, with the messages that they are of. */
export interface Filler {
  /** The next attempts, of later times than those before. @returns how many a second */
  fill(attempts: number): Promise<number>
  close(): Promise<void>
}

/** @param times `fromMs`: of the first message; `stepMs`: between two */
export function createFiller(
  databaseUrl: string,
  places: readonly Place[],
  { fromMs, stepMs, payloadBytes }: { fromMs: number; stepMs: number; payloadBytes: number },
): Filler {
  const pool = createPool(databaseUrl, WRITERS + 1)
  const recorders = Array.from({ length: WRITERS }, () => createRecorder({ pool, onWake: () => undefined }))
  let written = 0
  const addGroup = async (recorder: Recorder, messages: number) => {
    const made = Array.from({ length: messages }, () => {
      const atMs = fromMs + written++ * stepMs
      return { id: newId('msg', atMs), atMs, place: places[randomInt(places.length)]! }
    })
    await insertMessages(pool, made, payloadBytes)
    await Promise.all(made.flatMap((message) => recordsOf(message).map((record) => recorder.record(record))))
  }
  return {
    async fill(attempts) {
      const begin = nowMs()
      let left = attempts / ENDPOINTS_EACH
      const work = async (recorder: Recorder) => {
        while (left > 0) {
          const messages = Math.min(left, TOGETHER / ENDPOINTS_EACH)
          left -= messages
          await addGroup(recorder, messages)
        }
      }
      await Promise.all(recorders.map(work))
      return attempts / ((nowMs() - begin) / 1000)
    },
    async close() {
      await Promise.all(recorders.map((recorder) => recorder.drained()))
      await pool.end()
    },
  }
}

interface Made {
  readonly id: string
  readonly atMs: number
  readonly place: Place
}

function recordsOf({ id, atMs, place: { appId, endpointIds } }: Made): Record[] {
  return endpointIds.map((endpointId) => {
    const failed = Math.random() < FAILURES
    const createdAtMs = atMs + randomInt(400)
    const status = failed ? STATUS_FAIL : STATUS_SUCCESS
    const attempt: AttemptRow = {
      ...{ id: newId('atmpt', createdAtMs), messageId: id, endpointId, appId, eventType: EVENT_TYPE, url: 'https://hooks.example.com/in' },
      ...{ status, responseCode: failed ? 503 : 200, responseBody: failed ? 'Service Unavailable' : '{"ok":true}' },
      ...{ durationMs: randomInt(5, 400), trigger: TRIGGER_SCHEDULED, groupId: id, runId: randomUUID(), createdAtMs },
    }
    // Nothing waits: rows of deliveries that do are few, and go again.
    return {
      attempt,
      messageId: id,
      endpointId,
      appId,
      trigger: TRIGGER_SCHEDULED,
      groupId: id,
      change: { state: 'delivered', hadRow: false },
    }
  })
}

async function insertMessages(pool: Pool, made: readonly Made[], payloadBytes: number): Promise<void> {
  await pool.query({
    name: 'bench-messages',
    text: `INSERT INTO message (id, app_id, event_type, payload, created_at, expires_at)
      SELECT id, app, $5, payload, to_timestamp(ms / 1000), to_timestamp(ms / 1000) + interval '90 days'
      FROM unnest($1::text[], $2::text[], $3::text[], $4::float8[]) AS t (id, app, payload, ms)`,
    values: [
      made.map(({ id }) => id),
      made.map(({ place }) => place.appId),
      made.map(() => payloadOf(payloadBytes)),
      made.map(({ atMs }) => atMs),
      EVENT_TYPE,
    ],
  })
}

/** Text that does not compress, as real ones hardly do at this size. */
function payloadOf(bytes: number): string {
  return `{"id":"${randomBytes(bytes)
    .toString('base64')
    .slice(0, bytes - 9)}"}`
}

/** Names of the seeded applications and of their endpoints. */
export async function readPlaces(databaseUrl: string): Promise<Place[]> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  const { rows } = await client.query<Place>(
    `SELECT app_id AS "appId", array_agg(id ORDER BY id) AS "endpointIds" FROM endpoint WHERE url = 'http://127.0.0.1:9/' GROUP BY app_id ORDER BY 1`,
  )
  await client.end()
  return rows
}
