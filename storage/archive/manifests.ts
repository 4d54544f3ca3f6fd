import {
  MANIFEST_PREFIX,
  manifestKeyOf,
  partOfManifestKey,
  type ArchiveManifest,
  type ArchivePart,
  type ArchiveTable,
} from '../../domain/archive.ts'
import { ArchiveError, type ObjectStore } from './object-store.ts'

/** Says whose archive it is. */
const OWNER_KEY = 'archive.json'

/** @returns undefined where the part is not archived @throws {ArchiveError} `manifest_invalid` */
export async function readManifest(store: ObjectStore, part: ArchivePart): Promise<ArchiveManifest | undefined> {
  const key = manifestKeyOf(part)
  const text = await getText(store, key)
  return text === undefined ? undefined : parseManifest(key, text)
}

function parseManifest(key: string, text: string): ArchiveManifest {
  let manifest: ArchiveManifest
  try {
    manifest = JSON.parse(text) as ArchiveManifest
  } catch (cause) {
    throw new ArchiveError('manifest_invalid', `${key} is no JSON`, { cause })
  }
  if (manifest.version !== 1) throw new ArchiveError('manifest_invalid', `${key} was written by another version of Tidings`)
  if (!Array.isArray(manifest.objects) || manifestKeyOf(manifest) !== key)
    throw new ArchiveError('manifest_invalid', `${key} is no manifest`)
  return manifest
}

/** Replaces a part's manifest: from then on its objects are those that it names. */
export async function writeManifest(store: ObjectStore, manifest: ArchiveManifest): Promise<void> {
  await store.put(manifestKeyOf(manifest), Buffer.from(`${JSON.stringify(manifest, undefined, 1)}\n`))
}

/** Which parts. */
export interface PartFilter {
  readonly table?: ArchiveTable | undefined
  /** The first and the last day, both included. */
  readonly fromDay?: string | undefined
  readonly toDay?: string | undefined
}

/** Keys of the manifests of an archive, by table and day. */
export async function* listParts(store: ObjectStore, filter: PartFilter = {}): AsyncIterable<ArchivePart> {
  for await (const { key } of store.list(MANIFEST_PREFIX)) {
    const part = partOfManifestKey(key)
    if (part === undefined || (filter.table !== undefined && part.table !== filter.table)) continue
    if ((filter.fromDay ?? '') <= part.day && (filter.toDay === undefined || part.day <= filter.toDay)) yield part
  }
}

export async function* listManifests(store: ObjectStore, filter: PartFilter = {}): AsyncIterable<ArchiveManifest> {
  for await (const part of listParts(store, filter)) {
    const manifest = await readManifest(store, part)
    if (manifest !== undefined) yield manifest
  }
}

/** Whose archive it is: one URL is one region's, so that what may not leave a zone does not, and no day replaces another's. */
export interface ArchiveOwner {
  readonly region: string
  /** Null: of none. */
  readonly zone: string | null
}

/**
 * Takes possession of an archive that is nobody's yet.
 * @throws {ArchiveError} `wrong_region` where it is another region's
 */
export async function claimArchive(store: ObjectStore, { region, zone }: ArchiveOwner): Promise<void> {
  const text = await getText(store, OWNER_KEY)
  if (text === undefined) {
    await store.put(OWNER_KEY, Buffer.from(`${JSON.stringify({ version: 1, region, zone })}\n`))
    return
  }
  let owner: Partial<ArchiveOwner>
  try {
    owner = JSON.parse(text) as Partial<ArchiveOwner>
  } catch (cause) {
    throw new ArchiveError('manifest_invalid', `${OWNER_KEY} is no JSON`, { cause })
  }
  if (owner.region !== region || (owner.zone ?? null) !== zone) {
    throw new ArchiveError(
      'wrong_region',
      `${store.url} is the archive of the region ${owner.region} (zone ${owner.zone ?? 'none'}): give ${region} (zone ${zone ?? 'none'}) one of its own`,
    )
  }
}

async function getText(store: ObjectStore, key: string): Promise<string | undefined> {
  try {
    return (await store.get(key)).toString('utf8')
  } catch (error) {
    if (error instanceof ArchiveError && error.code === 'object_missing') return undefined
    throw error
  }
}
