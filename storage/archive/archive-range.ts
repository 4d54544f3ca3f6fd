import { manifestOf, mayHave, type ArchiveManifest } from '../../domain/archive.ts'
import type { Cipher } from '../cipher.ts'
import type { Pool } from '../pool.ts'
import { eraseLocked, lockNameOf } from './erase.ts'
import { deleteLeftoversUpTo } from './leftovers.ts'
import { claimArchive, readManifest, writeManifest, type ArchiveOwner } from './manifests.ts'
import { ArchiveError, type ObjectStore } from './object-store.ts'
import { createObjectWriter, type ObjectPlace, type ObjectWriter, type RowCounts } from './objects.ts'
import {
  countRange,
  databaseNow,
  erasuresSince,
  readRange,
  refuseStrangers,
  withPartLock,
  type PartLock,
  type RangeCounts,
  type RowRange,
} from './rows.ts'
import { ARCHIVE_SCHEMA } from './tables.ts'

export interface ArchiveRangeInput extends RowRange {
  readonly pool: Pool
  readonly store: ObjectStore
  readonly cipher: Cipher
  /** Of this process: one archive is one region's. */
  readonly owner: ArchiveOwner
  /** Told after each read of the database, and after each object. */
  readonly progress?: ((counts: RowCounts) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

export interface ArchiveRangeResult {
  readonly manifest: ArchiveManifest
  /** False: the range was archived before, and nothing has been added to it since. */
  readonly written: boolean
}

/** Erasures that ended so long before a run are seen by it in the database. */
const ERASURE_MARGIN_MS = 600_000

/**
 * Archives rows of a day: reads them, writes objects and reads those back, and writes the manifest last. A run that dies leaves
 * nothing that is taken for complete, and is repeated; a range that is archived already is left as it is, unless the database
 * has more of it. Nothing may be added to the range any more: rows are read in many statements, and counted before and after.
 * @throws {ArchiveError} `rows_changed` where the counts differ, `part_busy`, `wrong_region`, and what stores throw: to be repeated
 */
export async function archiveRange(input: ArchiveRangeInput): Promise<ArchiveRangeResult> {
  const { pool, store, owner } = input
  await claimArchive(store, owner)
  return withPartLock(pool, lockNameOf(input), async (lock) => {
    const startedAt = await databaseNow(pool)
    const [before, known] = [await countRange(pool, input), await readManifest(store, input)]
    const written = known === undefined || hasNews(known, before)
    const manifest = written ? await write(input, lock, known) : known
    return { manifest: await eraseLate(input, lock, manifest, startedAt), written }
  })
}

/**
 * Whether a range of the database is in the archive as it is now: asked before it is dropped. What was erased may be in neither.
 */
export async function isArchived(input: Pick<ArchiveRangeInput, 'pool' | 'store'> & RowRange): Promise<boolean> {
  const manifest = await readManifest(input.store, input)
  return manifest !== undefined && !hasNews(manifest, await countRange(input.pool, input))
}

/** Rows that were added, or payloads that were expunged; fewer rows are what an erasure has left. */
function hasNews(known: ArchiveManifest, now: RangeCounts): boolean {
  return now.rows > known.rows || (now.rows === known.rows && now.payloads !== known.payloads)
}

async function write(input: ArchiveRangeInput, lock: PartLock, known: ArchiveManifest | undefined): Promise<ArchiveManifest> {
  const { pool, store, cipher, owner, progress, table, outcome, day, fromId, toId } = input
  const part = { table, outcome, day }
  const place: ObjectPlace = { store, cipher, part }
  const writer = createObjectWriter(place, async () => {
    await lock.hold()
    progress?.(writer.counts)
  })
  let concluded = false
  try {
    await copyRows(input, writer)
    const objects = await writer.finish()
    const head = {
      ...part,
      schema: ARCHIVE_SCHEMA,
      region: owner.region,
      fromId,
      toId,
      erasures: known?.erasures ?? [],
      writtenAt: new Date().toISOString(),
    }
    const manifest = manifestOf(head, objects)
    const now = await countRange(pool, input)
    if (now.rows !== manifest.rows || now.payloads !== manifest.payloads) {
      throw new ArchiveError(
        'rows_changed',
        `rows of ${table} of ${day} were changed while they were archived: ${manifest.rows} read, ${now.rows} there`,
      )
    }
    await lock.hold()
    // From here on the manifest may be there, whatever the store answers.
    concluded = true
    await writeManifest(store, manifest)
    await store.delete(known?.objects.map(({ key }) => key) ?? [])
    await deleteLeftoversUpTo(store, part)
    return manifest
  } catch (error) {
    // What cannot be deleted now is found by `deleteLeftovers` later.
    if (!concluded) await writer.discard().catch(() => undefined)
    throw error
  }
}

async function copyRows(input: ArchiveRangeInput, writer: ObjectWriter): Promise<void> {
  const zone = input.owner.zone
  let checked = ''
  for await (const rows of readRange(input.pool, input, input.signal)) {
    const strangers = [...new Set(rows.map((row) => row['app_id'] as string))].filter((appId) => appId > checked)
    if (strangers.length > 0) await refuseStrangers(input.pool, strangers, zone)
    checked = strangers.at(-1) ?? checked
    await writer.add(rows)
    input.progress?.(writer.counts)
  }
}

/** An erasure that passed before the manifest was there has not seen it: its task was. */
async function eraseLate(
  { pool, store, cipher }: ArchiveRangeInput,
  { hold }: PartLock,
  manifest: ArchiveManifest,
  startedAt: Date,
): Promise<ArchiveManifest> {
  let current = manifest
  const since = new Date(Math.min(startedAt.getTime(), Date.parse(manifest.writtenAt)) - ERASURE_MARGIN_MS)
  for (const erased of await erasuresSince(pool, since)) {
    if (!current.objects.some((object) => mayHave(object, erased.appId))) continue
    await eraseLocked({ store, cipher, part: current, hold }, current, erased)
    current = (await readManifest(store, current)) ?? current
  }
  return current
}
