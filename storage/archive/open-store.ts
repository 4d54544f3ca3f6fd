import { createFileStore } from './file-store.ts'
import type { ObjectStore } from './object-store.ts'
import type { S3Settings } from './s3-store.ts'

/** Where the archive is: `file:///…` or `s3://bucket/prefix`, the latter with how it is reached. */
export type ArchiveSettings = S3Settings

/** The client of S3 is loaded where it is needed alone. */
export async function openObjectStore(settings: ArchiveSettings): Promise<ObjectStore> {
  if (settings.url.startsWith('file:')) return createFileStore(settings.url)
  const { createS3Store } = await import('./s3-store.ts')
  return createS3Store(settings)
}
