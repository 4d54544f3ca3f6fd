import {
  dayOf,
  mayHave,
  timeOfId,
  type ArchiveManifest,
  type ArchiveObject,
  type ArchiveOutcome,
  type ArchiveTable,
} from '../../domain/archive.ts'
import type { Cipher } from '../cipher.ts'
import { listManifests, readManifest } from './manifests.ts'
import type { ObjectStore } from './object-store.ts'
import { openObject } from './objects.ts'
import type { Bounds, RowGroup } from './parquet.ts'
import type { ArchiveRow } from './tables.ts'

/** An archive that is read. */
export interface Archive {
  readonly store: ObjectStore
  readonly cipher: Cipher
}

/** Which rows. */
export interface RowQuery {
  readonly table: ArchiveTable
  readonly appId?: string | undefined
  /** Of attempts. */
  readonly messageId?: string | undefined
  /** The least id (inclusive), and the first that is not meant any more. */
  readonly fromId?: string | undefined
  readonly toId?: string | undefined
  readonly fromDay?: string | undefined
  readonly toDay?: string | undefined
}

/** How far a search is. */
export interface SearchProgress {
  readonly day: string
  readonly parts: number
  /** Objects that may have had some of what is searched, of all that were passed. */
  readonly objectsRead: number
  readonly objects: number
  readonly found: number
}

export interface FoundRow {
  readonly table: ArchiveTable
  readonly outcome: ArchiveOutcome | null
  readonly day: string
  readonly row: ArchiveRow
}

/**
 * Rows of the archive, day by day, in the order that they are stored in. Of each object only the row groups are read that can
 * have some of them, by their bounds.
 * @param progress told after each object
 */
export async function* searchArchive(
  { store, cipher }: Archive,
  query: RowQuery,
  progress: (progress: SearchProgress) => void = () => undefined,
): AsyncIterable<FoundRow> {
  const counts = { parts: 0, objectsRead: 0, objects: 0, found: 0 }
  for await (const manifest of listManifests(store, query)) {
    const { table, outcome, day } = manifest
    counts.parts++
    for (const object of manifest.objects) {
      counts.objects++
      if (!canHave(object, query)) continue
      counts.objectsRead++
      for await (const row of rowsOf({ store, cipher }, object, query)) {
        counts.found++
        yield { table, outcome, day, row }
      }
      progress({ day, ...counts })
    }
    progress({ day, ...counts })
  }
}

function canHave(object: ArchiveObject, { appId, fromId = '', toId }: RowQuery): boolean {
  return (appId === undefined || mayHave(object, appId)) && object.lastId >= fromId && (toId === undefined || object.firstId < toId)
}

async function* rowsOf(archive: Archive, object: ArchiveObject, query: RowQuery): AsyncIterable<ArchiveRow> {
  const file = await openObject(archive, object)
  for (const group of file.groups.filter((one) => canHaveGroup(one, query))) {
    for (const row of await file.read(group)) if (isMeant(row, query)) yield row
  }
}

function canHaveGroup({ bounds }: RowGroup, { appId, messageId, fromId = '', toId }: RowQuery): boolean {
  const ids = bounds.get('id')
  return (
    isWithin(bounds.get('app_id'), appId) &&
    isWithin(bounds.get('message_id'), messageId) &&
    (ids === undefined || (String(ids[1]) >= fromId && (toId === undefined || String(ids[0]) < toId)))
  )
}

const isWithin = (bounds: Bounds | undefined, value: string | undefined): boolean =>
  value === undefined || bounds === undefined || (String(bounds[0]) <= value && value <= String(bounds[1]))

function isMeant(row: ArchiveRow, { appId, messageId, fromId = '', toId }: RowQuery): boolean {
  const id = row['id'] as string
  return (
    (appId === undefined || row['app_id'] === appId) &&
    (messageId === undefined || row['message_id'] === messageId) &&
    id >= fromId &&
    (toId === undefined || id < toId)
  )
}

/** @returns the part that a message is in where it is archived: its id says on which day it was published */
export async function findArchivedMessage(archive: Archive, messageId: string, appId?: string): Promise<FoundRow | undefined> {
  const atMs = timeOfId(messageId)
  if (atMs === undefined) return undefined
  const day = dayOf(atMs)
  const manifest = await readManifest(archive.store, { table: 'message', outcome: null, day })
  return manifest === undefined ? undefined : findIn(archive, manifest, messageId, appId)
}

async function findIn(archive: Archive, manifest: ArchiveManifest, id: string, appId?: string): Promise<FoundRow | undefined> {
  const query = { table: 'message', appId, fromId: id, toId: `${id}~` } as const
  for (const object of manifest.objects.filter((one) => canHave(one, query))) {
    for await (const row of rowsOf(archive, object, query)) return { table: 'message', outcome: null, day: manifest.day, row }
  }
  return undefined
}
