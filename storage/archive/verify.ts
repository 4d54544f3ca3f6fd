import { DATA_PREFIX, manifestOf, type ArchiveManifest } from '../../domain/archive.ts'
import { LIMITS } from '../../domain/limits.ts'
import { listManifests, type PartFilter } from './manifests.ts'
import { ArchiveError } from './object-store.ts'
import { verifyObject } from './objects.ts'
import type { Archive } from './search.ts'

export interface VerifyCounts {
  readonly parts: number
  readonly objects: number
  readonly rows: number
  readonly bytes: number
}

export interface VerifyReport extends VerifyCounts {
  /** One line each. */
  readonly problems: readonly string[]
  /** Objects that no manifest names, older than a run can be. */
  readonly orphans: readonly string[]
}

/**
 * Reads all objects of the parts, and compares checksums, digests of rows, and counts with the manifests.
 * @param progress told after each object
 */
export async function verifyArchive(
  archive: Archive,
  filter: PartFilter,
  progress: (counts: VerifyCounts & { readonly day: string }) => void = () => undefined,
): Promise<VerifyReport> {
  const counts = { parts: 0, objects: 0, rows: 0, bytes: 0 }
  const problems: string[] = []
  const named = new Set<string>()
  for await (const manifest of listManifests(archive.store, filter)) {
    counts.parts++
    problems.push(...problemsOfCounts(manifest))
    for (const object of manifest.objects) {
      named.add(object.key)
      try {
        counts.rows += await verifyObject({ ...archive, table: manifest.table }, object)
      } catch (error) {
        if (!(error instanceof ArchiveError) || error.code === 'store_failed') throw error
        problems.push(`${error.code}: ${error.message}`)
      }
      counts.objects++
      counts.bytes += object.bytes
      progress({ day: manifest.day, ...counts })
    }
  }
  const everything = Object.values(filter).every((bound) => bound === undefined)
  return { ...counts, problems, orphans: everything ? await orphansOf(archive, named) : [] }
}

function problemsOfCounts(manifest: ArchiveManifest): string[] {
  const { rows, bytes } = manifestOf(manifest, manifest.objects)
  const name = `${manifest.table} ${manifest.outcome ?? ''} ${manifest.day}`.replace('  ', ' ')
  return [
    ...(rows === manifest.rows ? [] : [`manifest_invalid: ${name} says ${manifest.rows} rows, its objects ${rows}`]),
    ...(bytes === manifest.bytes ? [] : [`manifest_invalid: ${name} says ${manifest.bytes} bytes, its objects ${bytes}`]),
  ]
}

async function orphansOf({ store }: Archive, named: ReadonlySet<string>): Promise<string[]> {
  const orphans: string[] = []
  for await (const { key, modifiedAt } of store.list(DATA_PREFIX)) {
    if (!named.has(key) && Date.now() - modifiedAt.getTime() > LIMITS.archiveOrphanMs) orphans.push(key)
  }
  return orphans
}
