import { randomBytes } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { DEFAULT_ORGANISATION } from '../domain/default-organisation.ts'
import { createCipher } from '../storage/cipher.ts'
import { CONFIG_CHANNEL } from '../storage/config-changes.ts'
import { nowMs } from './clock.ts'

/** Applications of ten endpoints each, and messages of theirs, written straight into the service's Postgres. */
export interface Seed {
  /** Ids of the first applications. */
  applications(count: number): readonly string[]
  /** Adds applications until there are so many endpoints, a multiple of ten. */
  growEndpoints(total: number): Promise<void>
  /**
   * Adds delivered messages of the first `SEEDED_FOR` applications, until there are so many or `limitMs` have passed.
   * @returns how many there are
   */
  growMessages(total: number, limitMs: number): Promise<number>
  /** The endpoints of these applications have these ten URLs from now on; heard of by every process when it resolves. */
  pointTo(applications: readonly string[], urls: readonly string[]): Promise<void>
  /** Bytes of the database. */
  size(): Promise<number>
  close(): Promise<void>
}

export const ENDPOINTS_EACH = 10
export const SEEDED_FOR = 10
/** Of a seeded message's payload: so that ten million fit on a disk that a thousand bytes each would fill. */
const PAYLOAD_BYTES = 200
const APPLICATIONS_PER_STATEMENT = 1000
const MESSAGES_PER_STATEMENT = 50_000
/** As the driver of the scenarios waits after it has created endpoints. */
const CHANGE_HEARD_MS = 2500
const idOf = (prefix: string, number: string) => `'${prefix}_' || lpad((${number})::text, 27, '0')`

/** @param encryptionKey the service's: every seeded endpoint has one and the same secret, encrypted with it */
export async function openSeed(databaseUrl: string, encryptionKey: string): Promise<Seed> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  const secret = createCipher(encryptionKey).encrypt(`whsec_${randomBytes(24).toString('base64')}`)
  let endpoints = 0
  let messages = 0
  const addApplications = async (from: number, count: number) => {
    await client.query(
      `INSERT INTO application (id, org_id, name) SELECT ${idOf('app', 'n')}, $3, 'seeded' FROM generate_series($1::int, $2::int) n`,
      [from, from + count - 1, DEFAULT_ORGANISATION],
    )
    await client.query(
      `WITH made AS (
        INSERT INTO endpoint (id, app_id, url) SELECT ${idOf('ep', `n * ${ENDPOINTS_EACH} + e`)}, ${idOf('app', 'n')}, 'http://127.0.0.1:9/'
        FROM generate_series($1::int, $2::int) n, generate_series(0, ${ENDPOINTS_EACH - 1}) e RETURNING id
      ) INSERT INTO endpoint_secret (endpoint_id, secret_cipher) SELECT id, $3 FROM made`,
      [from, from + count - 1, secret],
    )
  }
  // As the service leaves them: a message, its event id and one attempt that was answered 200.
  const addMessages = async (from: number, count: number) => {
    await client.query(
      `WITH made AS (
        INSERT INTO message (id, app_id, event_type, event_id, payload, expires_at)
        SELECT ${idOf('msg', 'n')}, ${idOf('app', `n % ${SEEDED_FOR}`)}, 'bench.event', 'seeded-' || n,
          '{"n":' || n || ',"pad":"' || repeat('x', ${PAYLOAD_BYTES}) || '"}', now() + interval '30 days'
        FROM generate_series($1::int, $2::int) n RETURNING id, app_id, event_id
      ), named AS (
        INSERT INTO message_event_id (app_id, event_id, message_id) SELECT app_id, event_id, id FROM made
      ) INSERT INTO attempt (message_id, id, endpoint_id, app_id, event_type, url, status, response_code, response_body, duration_ms,
          trigger, group_id, run_id, created_at)
        SELECT id, 'atmpt_' || right(id, 27), 'ep_' || lpad((right(app_id, 27)::bigint * ${ENDPOINTS_EACH})::text, 27, '0'), app_id,
          'bench.event', 'http://127.0.0.1:9/', 0, 200, '{"ok":true}', 5, 0, id, gen_random_uuid(), now() FROM made`,
      [from, from + count - 1],
    )
  }
  const settle = async (tables: string) => {
    await client.query(`VACUUM ANALYZE ${tables}`)
    await client.query('CHECKPOINT')
  }
  return {
    applications: (count) => Array.from({ length: count }, (_, n) => `app_${String(n).padStart(27, '0')}`),
    async growEndpoints(total) {
      for (let made = endpoints / ENDPOINTS_EACH; made < total / ENDPOINTS_EACH;) {
        const count = Math.min(APPLICATIONS_PER_STATEMENT, total / ENDPOINTS_EACH - made)
        await addApplications(made, count)
        made += count
      }
      endpoints = Math.max(endpoints, total)
      await settle('application, endpoint, endpoint_secret')
    },
    async growMessages(total, limitMs) {
      const endMs = nowMs() + limitMs
      while (messages < total && nowMs() < endMs) {
        const count = Math.min(MESSAGES_PER_STATEMENT, total - messages)
        await addMessages(messages, count)
        messages += count
      }
      await settle('message, message_event_id, attempt')
      return messages
    },
    async pointTo(applications, urls) {
      await client.query(
        `UPDATE endpoint SET url = ($2::text[])[right(id, 27)::bigint % ${ENDPOINTS_EACH} + 1], updated_at = now() WHERE app_id = ANY($1::text[])`,
        [applications, urls],
      )
      await client.query('SELECT pg_notify($1, app) FROM unnest($2::text[]) app', [CONFIG_CHANNEL, applications])
      await delay(CHANGE_HEARD_MS)
    },
    async size() {
      const { rows } = await client.query<{ bytes: number }>('SELECT pg_database_size(current_database())::float8 AS bytes')
      return rows[0]!.bytes
    },
    close: () => client.end(),
  }
}
