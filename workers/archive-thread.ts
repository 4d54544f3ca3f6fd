/** What a thread of the archive does: whole parts, with a pool and a store of its own (workers/archiver.ts). */
import { parentPort, workerData } from 'node:worker_threads'
import type { ArchiveErasure, ArchivePart } from '../domain/archive.ts'
import { archiveRange, type ArchiveRangeResult } from '../storage/archive/archive-range.ts'
import { eraseFromPart, type ErasedApplication } from '../storage/archive/erase.ts'
import type { ArchiveOwner } from '../storage/archive/manifests.ts'
import type { RowCounts } from '../storage/archive/objects.ts'
import { openObjectStore, type ArchiveSettings } from '../storage/archive/open-store.ts'
import type { RowRange } from '../storage/archive/rows.ts'
import { createCipher } from '../storage/cipher.ts'
import { createPool } from '../storage/pool.ts'

/** What a thread is started with. */
export interface ArchiveThreadData {
  readonly databaseUrl: string
  readonly archive: ArchiveSettings
  readonly encryptionKey: string
  readonly previousEncryptionKeys: readonly string[]
  readonly owner: ArchiveOwner
}

export type ArchiveWork =
  | { readonly kind: 'archive'; readonly range: RowRange }
  | { readonly kind: 'erase'; readonly part: ArchivePart; readonly erased: ErasedApplication }

export type ToArchiveThread = (ArchiveWork & { readonly id: number }) | { readonly kind: 'stop'; readonly id: number }

export type FromArchiveThread = { readonly id: number } & (
  | { readonly progress: RowCounts }
  | { readonly result: ArchiveRangeResult | ArchiveErasure | undefined }
  | { readonly failure: { readonly code: string | undefined; readonly message: string } }
)

/** The lock of a part, and what is read meanwhile. */
const CONNECTIONS = 2

const { databaseUrl, archive, encryptionKey, previousEncryptionKeys, owner } = workerData as ArchiveThreadData
const pool = createPool(databaseUrl, CONNECTIONS)
const store = await openObjectStore(archive)
const cipher = createCipher(encryptionKey, previousEncryptionKeys)
const stops = new Map<number, AbortController>()
const tell = (message: FromArchiveThread) => parentPort!.postMessage(message)

// One after the other: each takes the connections and the memory of one.
let before: Promise<void> = Promise.resolve()
parentPort!.on('message', (message: ToArchiveThread) => {
  if (message.kind === 'stop') {
    stops.get(message.id)?.abort(new Error('the archiving was told to stop'))
    return
  }
  const stop = new AbortController()
  stops.set(message.id, stop)
  before = before.then(() => carryOut(message, stop.signal))
})

async function carryOut(work: ArchiveWork & { readonly id: number }, signal: AbortSignal): Promise<void> {
  const { id } = work
  try {
    signal.throwIfAborted()
    const progress = (counts: RowCounts) => tell({ id, progress: counts })
    const result =
      work.kind === 'archive'
        ? await archiveRange({ pool, store, cipher, owner, ...work.range, progress, signal })
        : await eraseFromPart({ pool, store, cipher }, work.part, work.erased)
    tell({ id, result })
  } catch (error) {
    const { message, code } = error as NodeJS.ErrnoException
    tell({ id, failure: { code, message } })
  } finally {
    stops.delete(id)
  }
}
