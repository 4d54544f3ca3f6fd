import { dayOf, objectPrefixOf, type ArchivePart } from '../../domain/archive.ts'
import { LIMITS } from '../../domain/limits.ts'
import { readManifest } from './manifests.ts'
import type { ObjectStore } from './object-store.ts'

const DAY_MS = 86_400_000

/** Deletes what runs that died have left of a part, once nobody can be writing it any more. */
export async function deleteLeftovers(store: ObjectStore, part: ArchivePart): Promise<void> {
  const old: string[] = []
  for await (const { key, modifiedAt } of store.list(objectPrefixOf(part))) {
    if (Date.now() - modifiedAt.getTime() > LIMITS.archiveOrphanMs) old.push(key)
  }
  if (old.length === 0) return
  // Read after the list: what is old and becomes named meanwhile is named by now.
  const named = new Set((await readManifest(store, part))?.objects.map(({ key }) => key))
  await store.delete(old.filter((key) => !named.has(key)))
}

/**
 * The same of a part and of the days before it. A part is archived once, and too soon after a run of it died for what that one left
 * to be old enough; when a later day of its kind is archived it is.
 */
export async function deleteLeftoversUpTo(store: ObjectStore, part: ArchivePart): Promise<void> {
  for (let days = 0; days <= LIMITS.archiveOrphanDays; days++) {
    await deleteLeftovers(store, { ...part, day: dayOf(Date.parse(part.day) - days * DAY_MS) })
  }
}
