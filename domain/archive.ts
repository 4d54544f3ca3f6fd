/** What the archive of message data is made of: names, days and manifests. Format: docs/archive.md. */

import { lowestIdAt, type IdPrefix } from './ids.ts'

export const ARCHIVE_TABLES = ['message', 'attempt'] as const
export type ArchiveTable = (typeof ARCHIVE_TABLES)[number]

/** Attempts that ended well are kept apart from those that did not: they leave the database sooner. */
export const ARCHIVE_OUTCOMES = ['success', 'failure'] as const
export type ArchiveOutcome = (typeof ARCHIVE_OUTCOMES)[number]

/** What one manifest is about. */
export interface ArchivePart {
  readonly table: ArchiveTable
  /** Of attempts alone; null: all. */
  readonly outcome: ArchiveOutcome | null
  /** UTC, as 2026-11-23. */
  readonly day: string
}

/** One object of a part: rows in the order of their keys, of a range of applications. */
export interface ArchiveObject {
  readonly key: string
  readonly rows: number
  /** Of them those with a payload. */
  readonly payloads: number
  /** Of its rows as JSON. */
  readonly rawBytes: number
  readonly bytes: number
  /** Of its bytes as they are stored, in hexadecimal. */
  readonly sha256: string
  /** Of its rows in their order: what was read from the database is what is read from the object. */
  readonly rowsSha256: string
  readonly firstApp: string
  readonly lastApp: string
  /** The least and the greatest id in it. */
  readonly firstId: string
  readonly lastId: string
  /** Of the key that it is encrypted with, in hexadecimal. */
  readonly keyId: string
}

/** What an erasure has done to a part. */
export interface ArchiveErasure {
  /** `qtask_…` */
  readonly taskId: string
  readonly rows: number
  readonly objectsRewritten: number
  readonly objectsDeleted: number
  /** Objects that are not of the part any more, to be deleted by whoever repeats the erasure. */
  readonly replaced: readonly string[]
  readonly at: string
}

/** Written last: what no manifest names is not there. */
export interface ArchiveManifest extends ArchivePart {
  readonly version: 1
  /** Of the columns in its objects. */
  readonly schema: number
  readonly region: string
  /** Rows with ids from here (inclusive) to there (exclusive). */
  readonly fromId: string
  readonly toId: string
  readonly rows: number
  readonly payloads: number
  readonly rawBytes: number
  readonly bytes: number
  /** Absent where there are no rows. */
  readonly firstId?: string
  readonly lastId?: string
  readonly writtenAt: string
  readonly objects: readonly ArchiveObject[]
  readonly erasures: readonly ArchiveErasure[]
}

const PREFIX_OF = { message: 'msg', attempt: 'atmpt' } as const satisfies Record<ArchiveTable, IdPrefix>
const DAY_MS = 86_400_000
const DAY = /^\d{4}-\d{2}-\d{2}$/

const nameOf = ({ table, outcome }: Omit<ArchivePart, 'day'>) => (outcome === null ? table : `${table}-${outcome}`)

/** Where all manifests are. */
export const MANIFEST_PREFIX = 'manifest/'
/** Where all objects are. */
export const DATA_PREFIX = 'data/'

export function manifestKeyOf(part: ArchivePart): string {
  return `${MANIFEST_PREFIX}${nameOf(part)}/${part.day}.json`
}

/** What the keys of a part's objects begin with. */
export function objectPrefixOf(part: ArchivePart): string {
  return `${DATA_PREFIX}${nameOf(part)}/${part.day}/`
}

/** The part whose manifest has this key; undefined of another object. */
export function partOfManifestKey(key: string): ArchivePart | undefined {
  const [, name, day = ''] = /^manifest\/([a-z-]+)\/([\d-]+)\.json$/.exec(key) ?? []
  const [table, outcome = null, ...more] = name?.split('-') ?? []
  if (!isOneOf(ARCHIVE_TABLES, table) || !isDay(day) || more.length > 0) return undefined
  return outcome === null || isOneOf(ARCHIVE_OUTCOMES, outcome) ? { table, outcome, day } : undefined
}

function isOneOf<T extends string>(all: readonly T[], text: string | undefined): text is T {
  return (all as readonly (string | undefined)[]).includes(text)
}

/** Whether this is a day as parts have it. */
export function isDay(text: string): boolean {
  return DAY.test(text) && !Number.isNaN(Date.parse(text)) && dayOf(Date.parse(text)) === text
}

/** The UTC day of an instant in milliseconds. */
export function dayOf(atMs: number): string {
  return new Date(atMs).toISOString().slice(0, 10)
}

/**
 * The ids of a table that were made on a UTC day.
 * @returns the first that there can be (inclusive), and the first of the next day (exclusive)
 */
export function idsOfDay(table: ArchiveTable, day: string): { readonly fromId: string; readonly toId: string } {
  const prefix = PREFIX_OF[table]
  const fromMs = Date.parse(day)
  return { fromId: lowestIdAt(prefix, fromMs), toId: lowestIdAt(prefix, fromMs + DAY_MS) }
}

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const KSUID_EPOCH_S = 1_400_000_000
const RANDOM_BITS = 120n

/** When an id was made, in Unix milliseconds (steps of 4); undefined of what is none. */
export function timeOfId(id: string): number | undefined {
  const text = /^[a-z]+_([0-9A-Za-z]{27})$/.exec(id)?.[1]
  if (text === undefined) return undefined
  let value = 0n
  for (const digit of text) value = value * 62n + BigInt(DIGITS.indexOf(digit))
  const time = Number(value >> RANDOM_BITS)
  return (Math.floor(time / 256) + KSUID_EPOCH_S) * 1000 + (time % 256) * 4
}

/** Whether an object may have rows of an application. */
export function mayHave({ firstApp, lastApp }: ArchiveObject, appId: string): boolean {
  return firstApp <= appId && appId <= lastApp
}

/** A part with these objects. */
export function manifestOf(
  head: Omit<ArchiveManifest, 'version' | 'rows' | 'payloads' | 'rawBytes' | 'bytes' | 'firstId' | 'lastId' | 'objects'>,
  objects: readonly ArchiveObject[],
): ArchiveManifest {
  const sum = (of: (object: ArchiveObject) => number) => objects.reduce((all, object) => all + of(object), 0)
  const firsts = objects.map(({ firstId }) => firstId).sort()
  const lasts = objects.map(({ lastId }) => lastId).sort()
  return {
    version: 1,
    ...head,
    rows: sum(({ rows }) => rows),
    payloads: sum(({ payloads }) => payloads),
    rawBytes: sum(({ rawBytes }) => rawBytes),
    bytes: sum(({ bytes }) => bytes),
    ...(objects.length === 0 ? {} : { firstId: firsts[0]!, lastId: lasts.at(-1)! }),
    objects,
  }
}
