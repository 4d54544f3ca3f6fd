import {
  manifestOf,
  mayHave,
  type ArchiveErasure,
  type ArchiveManifest,
  type ArchiveObject,
  type ArchivePart,
} from '../../domain/archive.ts'
import type { Cipher } from '../cipher.ts'
import type { Pool } from '../pool.ts'
import { readManifest, writeManifest } from './manifests.ts'
import type { ObjectStore } from './object-store.ts'
import { createObjectWriter, openObject, readObject, type ObjectPlace } from './objects.ts'
import { withPartLock } from './rows.ts'

export interface ErasedApplication {
  readonly appId: string
  /** `qtask_…`: an erasure that is repeated is known by it. */
  readonly taskId: string
}

export interface ErasePlace {
  readonly pool: Pool
  readonly store: ObjectStore
  readonly cipher: Cipher
}

/**
 * Removes an application from one part: objects that hold it are written anew without its rows, or deleted where nothing is left.
 * Repeating it, also after a crash at any place, finishes what was begun and returns the same receipt.
 * @returns what was removed; undefined where the part is not archived
 * @throws {ArchiveError} `part_busy`, and what reading and writing objects throw
 */
export async function eraseFromPart(place: ErasePlace, part: ArchivePart, erased: ErasedApplication): Promise<ArchiveErasure | undefined> {
  return withPartLock(place.pool, lockNameOf(part), async ({ hold }) => {
    const manifest = await readManifest(place.store, part)
    return manifest === undefined ? undefined : eraseLocked({ ...place, part, hold }, manifest, erased)
  })
}

export const lockNameOf = ({ table, outcome, day }: ArchivePart) => `${table} ${outcome ?? 'all'} ${day}`

interface Locked extends ObjectPlace {
  hold(): Promise<void>
}

/** The same for who has the lock of the part. */
export async function eraseLocked(place: Locked, manifest: ArchiveManifest, { appId, taskId }: ErasedApplication): Promise<ArchiveErasure> {
  const { store, hold } = place
  const done = manifest.erasures.find((erasure) => erasure.taskId === taskId)
  const holders = await holdersOf(place, manifest, appId)
  if (done !== undefined && holders.length === 0) {
    // It may have died before it had deleted them all.
    await store.delete(done.replaced)
    return done
  }
  const kept: ArchiveObject[] = []
  const receipt = { rows: done?.rows ?? 0, objectsRewritten: done?.objectsRewritten ?? 0, objectsDeleted: done?.objectsDeleted ?? 0 }
  for (const object of manifest.objects) {
    if (!holders.includes(object)) {
      kept.push(object)
      continue
    }
    const rest = await rewriteWithout(place, object, appId)
    kept.push(...rest)
    receipt.rows += object.rows - rest.reduce((all, { rows }) => all + rows, 0)
    if (rest.length > 0) receipt.objectsRewritten++
    else receipt.objectsDeleted++
  }
  const replaced = [...(done?.replaced ?? []), ...holders.map(({ key }) => key)]
  const erasure: ArchiveErasure = { taskId, ...receipt, replaced, at: new Date().toISOString() }
  const erasures = [...manifest.erasures.filter((one) => one !== done), erasure]
  await hold()
  if (holders.length > 0) await writeManifest(store, manifestOf({ ...manifest, erasures }, kept))
  await store.delete(replaced)
  return erasure
}

/** The objects that hold rows of the application: those between whose applications it is are looked into. */
async function holdersOf(place: ObjectPlace, { objects }: ArchiveManifest, appId: string): Promise<ArchiveObject[]> {
  const holders: ArchiveObject[] = []
  for (const object of objects.filter((one) => mayHave(one, appId))) {
    if (object.firstApp === appId || object.lastApp === appId || (await holds(place, object, appId))) holders.push(object)
  }
  return holders
}

async function holds(place: ObjectPlace, object: ArchiveObject, appId: string): Promise<boolean> {
  const file = await openObject(place, object)
  for (const group of file.groups) {
    const [first, last] = group.bounds.get('app_id') ?? ['', '\uffff']
    if (first === null || last === null || first > appId || last < appId) continue
    if ((await file.read(group, ['app_id'])).some((row) => row['app_id'] === appId)) return true
  }
  return false
}

async function rewriteWithout(place: Locked, object: ArchiveObject, appId: string): Promise<ArchiveObject[]> {
  if (object.firstApp === appId && object.lastApp === appId) return []
  const writer = createObjectWriter(place, place.hold)
  for await (const rows of readObject({ ...place, table: place.part.table }, object)) {
    await writer.add(rows.filter((row) => row['app_id'] !== appId))
  }
  return writer.finish()
}
