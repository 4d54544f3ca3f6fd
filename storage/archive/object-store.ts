/** Stored under a key as one piece: there in full or not at all. */
export interface StoredObject {
  readonly key: string
  readonly bytes: number
  readonly modifiedAt: Date
}

/** Where the archive is: a directory, or a bucket. Keys are relative to its URL, with `/` between their parts. */
export interface ObjectStore {
  /** Without credentials. */
  readonly url: string
  /** Replaces what is there under the key. Durable when it resolves. */
  put(key: string, body: Uint8Array | Iterable<Uint8Array>): Promise<void>
  /** @throws {ArchiveError} `object_missing` */
  get(key: string): Promise<Buffer>
  /**
   * @param start the first byte
   * @param end behind the last byte; what is beyond the object's end is left out
   * @throws {ArchiveError} `object_missing`
   */
  getRange(key: string, start: number, end: number): Promise<Buffer>
  /** All objects whose keys begin so, in the order of their keys. */
  list(prefix: string): AsyncIterable<StoredObject>
  /** What is not there is left alone. */
  delete(keys: readonly string[]): Promise<void>
  close(): void
}

/**
 * What can be wrong with an archive.
 * - `object_missing`: there is no object of this key
 * - `object_corrupt`: an object is not what its manifest says, or was not read back as it was written
 * - `key_unknown`: it was encrypted with a key that is not known
 * - `manifest_invalid`: a manifest cannot be read
 * - `rows_changed`: rows were changed or deleted while they were archived: to be repeated
 * - `wrong_region`: the archive belongs to another region, or rows to another zone
 * - `part_busy`: another process archives or erases the same part
 * - `store_failed`: the store does not do what it is asked
 */
const ARCHIVE_ERROR_CODES = [
  'object_missing',
  'object_corrupt',
  'key_unknown',
  'manifest_invalid',
  'rows_changed',
  'wrong_region',
  'part_busy',
  'store_failed',
] as const
export type ArchiveErrorCode = (typeof ARCHIVE_ERROR_CODES)[number]

export function isArchiveErrorCode(code: string | undefined): code is ArchiveErrorCode {
  return (ARCHIVE_ERROR_CODES as readonly (string | undefined)[]).includes(code)
}

export class ArchiveError extends Error {
  override readonly name = 'ArchiveError'
  readonly code: ArchiveErrorCode

  constructor(code: ArchiveErrorCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

export function objectMissing(url: string, key: string, cause?: unknown): ArchiveError {
  return new ArchiveError('object_missing', `there is no object ${key} in ${url}`, { cause })
}

/** The whole of a body in one piece. */
export function bodyBytes(body: Uint8Array | Iterable<Uint8Array>): Uint8Array {
  return body instanceof Uint8Array ? body : Buffer.concat([...body])
}
