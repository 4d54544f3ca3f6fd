import { randomUUID } from 'node:crypto'
import { pathToFileURL } from 'node:url'
import { idsOfDay, type ArchiveOutcome, type ArchivePart, type ArchiveTable } from '../../../domain/archive.ts'
import { newId } from '../../../domain/ids.ts'
import type { ArchiveRangeInput } from '../../../storage/archive/archive-range.ts'
import type { ObjectStore } from '../../../storage/archive/object-store.ts'
import { openObjectStore } from '../../../storage/archive/open-store.ts'
import { createCipher } from '../../../storage/cipher.ts'
import type { Pool } from '../../../storage/pool.ts'
import { createScratch } from '../../support/scratch.ts'

export const DAY = '2026-08-20'
const DAY_MS = 86_400_000
export const KEY = 'a key for tests, 32 characters or more'
export const cipher = createCipher(KEY)
export const OWNER = { region: 'local', zone: null }

/** An archive in an empty directory. */
export async function createFileArchive(): Promise<{ store: ObjectStore; url: string; path: string; remove(): void }> {
  const scratch = createScratch('archive')
  const url = pathToFileURL(scratch.path).href
  return { store: await openObjectStore({ url }), url, path: scratch.path, remove: () => scratch.remove() }
}

export const at = (hours: number, day = DAY) => Date.parse(day) + hours * 3_600_000

export interface Filled {
  readonly messageIds: readonly string[]
  readonly attemptIds: readonly string[]
}

export interface Filling {
  readonly appId: string
  readonly messages: number
  readonly attemptsEach?: number
  readonly day?: string
  readonly payload?: (i: number) => string
  readonly retentionDays?: number
}

/** Messages of one day, spread over it, each with attempts soon after, the last of which is a success. */
export async function fillDay(pool: Pool, filling: Filling): Promise<Filled> {
  const {
    appId,
    messages,
    attemptsEach = 2,
    day = DAY,
    payload = (i) => JSON.stringify({ n: i, text: 'ä payload' }),
    retentionDays = 90,
  } = filling
  const messageIds: string[] = []
  const attemptIds: string[] = []
  const step = (DAY_MS - 60_000) / messages
  for (let i = 0; i < messages; i++) {
    const atMs = Date.parse(day) + Math.floor(i * step)
    const id = newId('msg', atMs)
    messageIds.push(id)
    await pool.query(
      `INSERT INTO message (id, app_id, event_type, event_id, channels, payload, created_at, expires_at, envelope, deliver_at, cancelled_at,
         ordering_key, priority, traceparent, accepted_in)
       VALUES ($1, $2, 'invoice.paid', $3, $4, $5, to_timestamp($6::float8 / 1000) + interval '7 microseconds',
         to_timestamp($6::float8 / 1000) + interval '7 microseconds' + $7 * interval '1 day', $8, $9, $10, $11, $12, $13, $14)`,
      [
        ...[id, appId, i % 3 === 0 ? `event-${i}` : null, [null, [], ['a', 'b "quoted"', 'ü']][i % 3], payload(i), atMs, retentionDays],
        ...[i % 4 === 0 ? { contentType: 'text/plain', attributes: { b: 1, a: 'x' } } : null, i % 5 === 0 ? new Date(atMs + 5) : null],
        ...[i % 7 === 0 ? new Date(atMs + 9) : null, i % 2 === 0 ? 'order-1' : null, ['high', 'medium', 'low'][i % 3]],
        ...[i % 6 === 0 ? '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' : null, i % 8 === 0 ? 'eu' : null],
      ],
    )
    for (let n = 0; n < attemptsEach; n++) {
      const attemptId = newId('atmpt', atMs + n * 1000)
      attemptIds.push(attemptId)
      const succeeds = n === attemptsEach - 1
      await pool.query(
        `INSERT INTO attempt (message_id, id, endpoint_id, app_id, event_type, url, status, response_code, response_body, duration_ms, trigger,
           group_id, run_id, next_attempt_at, created_at)
         VALUES ($1, $2, $3, $4, 'invoice.paid', 'https://example.com/hooks', $5, $6, $7, $8, 0, $1, $9, $10, to_timestamp($11::float8 / 1000))`,
        [
          ...[id, attemptId, `ep_${appId}_${i % 3}`, appId, succeeds ? 0 : 2, succeeds ? 200 : 503, succeeds ? 'ok' : 'busy \\ "', 12 + n],
          ...[randomUUID(), succeeds ? null : new Date(atMs + 2000), atMs + n * 1000],
        ],
      )
    }
  }
  return { messageIds, attemptIds }
}

export function partOf(table: ArchiveTable, outcome: ArchiveOutcome | null = null, day = DAY): ArchivePart {
  return { table, outcome, day }
}

/** What a day is archived with. */
export function rangeOf(pool: Pool, store: ObjectStore, part: ArchivePart): ArchiveRangeInput {
  return { pool, store, cipher, owner: OWNER, ...part, ...idsOfDay(part.table, part.day) }
}
