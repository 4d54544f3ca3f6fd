/** Objects of the archive: made of rows in their order, read back to verify them, and read in parts. */
import { createHash, randomBytes, type Hash } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import { objectPrefixOf, type ArchiveObject, type ArchivePart, type ArchiveTable } from '../../domain/archive.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { Cipher } from '../cipher.ts'
import { ArchiveError, type ObjectStore } from './object-store.ts'
import { createParquetBuilder, openParquet, type ParquetBuilder, type ParquetFile } from './parquet.ts'
import { SEAL_HEADER_BYTES, seal, unseal, unsealAll } from './sealing.ts'
import { ARCHIVE_SCHEMA, ARCHIVED, type ArchiveRow } from './tables.ts'

/** What objects are written with. */
export interface ObjectPlace {
  readonly store: ObjectStore
  readonly cipher: Cipher
  readonly part: ArchivePart
}

export interface RowCounts {
  readonly rows: number
  readonly objects: number
  /** Of rows as JSON. */
  readonly rawBytes: number
  /** As they are stored. */
  readonly bytes: number
}

export interface ObjectWriter {
  /** @param rows in the order of the part, behind all that were added before */
  add(rows: readonly ArchiveRow[]): Promise<void>
  /** @returns all objects: each is stored and was read back */
  finish(): Promise<ArchiveObject[]>
  /** Deletes what was stored. */
  discard(): Promise<void>
  readonly counts: RowCounts
}

/** What one object is being made of. */
interface Draft {
  readonly parquet: ParquetBuilder
  readonly digest: Hash
  group: ArchiveRow[]
  groupBytes: number
  rows: number
  payloads: number
  rawBytes: number
  readonly firstApp: string
  lastApp: string
  firstId: string
  lastId: string
}

/**
 * Cuts rows into objects of bounded size, between two applications where it can: so few objects hold an application, and most
 * that hold a large one hold nothing else.
 * @param onStored after each object that is stored
 */
export function createObjectWriter(place: ObjectPlace, onStored: () => Promise<void> = () => Promise.resolve()): ObjectWriter {
  const { store, part } = place
  // Names are never used again: a process that was taken for dead and still writes spoils nothing.
  const run = randomBytes(6).toString('hex')
  const objects: ArchiveObject[] = []
  let draft: Draft | undefined
  const close = async () => {
    if (draft === undefined) return
    const done = draft
    draft = undefined
    const key = `${objectPrefixOf(part)}${run}-${String(objects.length).padStart(5, '0')}.parquet.sealed`
    objects.push(await storeObject(place, key, done))
    await onStored()
  }
  return {
    async add(rows) {
      for (const row of rows) {
        const values = lineOf(part.table, row)
        const bytes = Buffer.byteLength(values)
        if (draft !== undefined && endsBefore(draft, row, bytes)) await close()
        draft ??= begin(part, row)
        if (draft.group.length > 0 && isFull(draft, bytes)) await closeGroup(draft)
        take(draft, row, values, bytes)
      }
    },
    async finish() {
      await close()
      return objects
    },
    discard: () => store.delete(objects.map(({ key }) => key)),
    get counts() {
      const sum = (of: (object: ArchiveObject) => number, open: number) => objects.reduce((all, object) => all + of(object), open)
      return {
        rows: sum(({ rows }) => rows, draft?.rows ?? 0),
        objects: objects.length,
        rawBytes: sum(({ rawBytes }) => rawBytes, draft?.rawBytes ?? 0),
        bytes: sum(({ bytes }) => bytes, draft?.parquet.bytes ?? 0),
      }
    },
  }
}

/** A row's values in the order of the columns, as JSON: what is counted, and what the digest of an object is of. */
function lineOf(table: ArchiveTable, row: ArchiveRow): string {
  return JSON.stringify(ARCHIVED[table].columns.map(({ name }) => row[name] ?? null))
}

function begin(part: ArchivePart, row: ArchiveRow): Draft {
  const about = { 'tidings.schema': String(ARCHIVE_SCHEMA), 'tidings.table': part.table, 'tidings.day': part.day }
  const app = row['app_id'] as string
  const id = row['id'] as string
  return {
    parquet: createParquetBuilder(part.table, about),
    digest: createHash('sha256'),
    ...{ group: [], groupBytes: 0, rows: 0, payloads: 0, rawBytes: 0, firstApp: app, lastApp: app, firstId: id, lastId: id },
  }
}

function endsBefore(draft: Draft, row: ArchiveRow, bytes: number): boolean {
  const full = draft.rows >= LIMITS.archiveObjectRows || draft.rawBytes + bytes > LIMITS.archiveObjectBytes
  return full || (row['app_id'] !== draft.lastApp && draft.rawBytes > LIMITS.archiveObjectBytes / 2)
}

function isFull(draft: Draft, bytes: number): boolean {
  return draft.group.length >= LIMITS.archiveRowGroupRows || draft.groupBytes + bytes > LIMITS.archiveRowGroupBytes
}

function take(draft: Draft, row: ArchiveRow, line: string, bytes: number): void {
  const id = row['id'] as string
  const app = row['app_id'] as string
  if (app < draft.lastApp) throw new RangeError(`rows of ${app} come after those of ${draft.lastApp}`)
  draft.digest.update(line).update('\n')
  draft.group.push(row)
  draft.groupBytes += bytes
  draft.rows++
  draft.rawBytes += bytes
  draft.lastApp = app
  if (typeof row['payload'] === 'string') draft.payloads++
  if (id < draft.firstId) draft.firstId = id
  if (id > draft.lastId) draft.lastId = id
}

async function closeGroup(draft: Draft): Promise<void> {
  draft.parquet.add(draft.group)
  draft.group = []
  draft.groupBytes = 0
  // Compressing takes the thread: whoever waits for it goes first.
  await setImmediate()
}

async function storeObject({ store, cipher, part }: ObjectPlace, key: string, draft: Draft): Promise<ArchiveObject> {
  await closeGroup(draft)
  const { bytes: sealed, keyId } = seal(draft.parquet.finish(), key, cipher)
  const object: ArchiveObject = {
    key,
    rows: draft.rows,
    payloads: draft.payloads,
    rawBytes: draft.rawBytes,
    bytes: sealed.length,
    sha256: createHash('sha256').update(sealed).digest('hex'),
    rowsSha256: draft.digest.digest('hex'),
    ...{ firstApp: draft.firstApp, lastApp: draft.lastApp, firstId: draft.firstId, lastId: draft.lastId, keyId },
  }
  await store.put(key, sealed)
  await verifyObject({ store, cipher, table: part.table }, object)
  return object
}

export interface ObjectSource {
  readonly store: ObjectStore
  readonly cipher: Cipher
  readonly table: ArchiveTable
}

/**
 * All rows of an object, a row group at a time, after its checksum was compared; when the last is read also their digest was.
 * @throws {ArchiveError} `object_missing`, `object_corrupt`, `key_unknown`
 */
export async function* readObject({ store, cipher, table }: ObjectSource, object: ArchiveObject): AsyncIterable<ArchiveRow[]> {
  const sealed = await store.get(object.key)
  if (createHash('sha256').update(sealed).digest('hex') !== object.sha256) {
    throw corrupt(object, `its checksum is not that of its manifest`)
  }
  const plain = unsealAll(sealed, object.key, cipher)
  const file = await openPlain(object, plain)
  const digest = createHash('sha256')
  let rows = 0
  for (const group of file.groups) {
    const some = await parsing(object, () => file.read(group))
    for (const row of some) digest.update(lineOf(table, row)).update('\n')
    rows += some.length
    yield some
    await setImmediate()
  }
  if (rows !== object.rows) throw corrupt(object, `it has ${rows} rows and not ${object.rows}`)
  if (digest.digest('hex') !== object.rowsSha256) throw corrupt(object, 'its rows are not those that were written')
}

/** Reads an object to its end. @returns how many rows it has @throws {ArchiveError} as `readObject` */
export async function verifyObject(source: ObjectSource, object: ArchiveObject): Promise<number> {
  let rows = 0
  for await (const some of readObject(source, object)) rows += some.length
  return rows
}

function openPlain(object: ArchiveObject, plain: Buffer): Promise<ParquetFile> {
  const slice = (start: number, end?: number) => toArrayBuffer(plain.subarray(start, end))
  return parsing(object, () => openParquet({ byteLength: plain.length, slice }))
}

/**
 * Opens an object to read some of its row groups: only their ranges are asked of the store.
 * @throws {ArchiveError} as `readObject`
 */
export async function openObject({ store, cipher }: Omit<ObjectSource, 'table'>, object: ArchiveObject): Promise<ParquetFile> {
  const header = await store.getRange(object.key, 0, SEAL_HEADER_BYTES)
  const unsealing = unseal(header, object.bytes, object.key, cipher)
  const slice = async (start: number, end = unsealing.plainBytes) => {
    const range = unsealing.sealedRange(start, end)
    return toArrayBuffer(unsealing.open(await store.getRange(object.key, range.start, range.end), start, end))
  }
  return parsing(object, () => openParquet({ byteLength: unsealing.plainBytes, slice }))
}

function toArrayBuffer(bytes: Uint8Array): ArrayBuffer {
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer
}

/** Whatever Parquet cannot make sense of is the object's fault. */
async function parsing<T>(object: ArchiveObject, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (cause) {
    if (cause instanceof ArchiveError) throw cause
    throw new ArchiveError('object_corrupt', `${object.key} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`, {
      cause,
    })
  }
}

function corrupt({ key }: ArchiveObject, why: string): ArchiveError {
  return new ArchiveError('object_corrupt', `${key} is damaged: ${why}`)
}
