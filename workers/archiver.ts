import { Worker } from 'node:worker_threads'
import type { ArchiveErasure } from '../domain/archive.ts'
import type { ArchiveRangeResult } from '../storage/archive/archive-range.ts'
import type { ArchiveEraser } from '../storage/archive/erasure-task.ts'
import { ArchiveError, isArchiveErrorCode } from '../storage/archive/object-store.ts'
import type { RowCounts } from '../storage/archive/objects.ts'
import { openObjectStore } from '../storage/archive/open-store.ts'
import type { RowRange } from '../storage/archive/rows.ts'
import type { ArchiveThreadData, ArchiveWork, FromArchiveThread, ToArchiveThread } from './archive-thread.ts'

export interface ArchiveOptions {
  /** Told after each read and each object. */
  readonly progress?: ((counts: RowCounts) => void) | undefined
  readonly signal?: AbortSignal | undefined
}

/**
 * The archive of a process. Rows are encoded, compressed and read back in a thread, so that nothing else in the process waits for
 * it; the thread is started when there is something to do.
 */
export interface Archiver extends ArchiveEraser {
  /** As `archiveRange` of storage/archive. @throws {ArchiveError} */
  archiveRange(range: RowRange, options?: ArchiveOptions): Promise<ArchiveRangeResult>
  /** What is under way is given up; it is repeated by whoever asked for it. */
  stop(): Promise<void>
}

interface Pending {
  readonly progress?: ((counts: RowCounts) => void) | undefined
  resolve(result: ArchiveRangeResult | ArchiveErasure | undefined): void
  reject(error: Error): void
}

export async function createArchiver(data: ArchiveThreadData): Promise<Archiver> {
  const store = await openObjectStore(data.archive)
  const pending = new Map<number, Pending>()
  let thread: Worker | undefined
  let lastId = 0
  const start = (): Worker => {
    const started = new Worker(new URL('./archive-thread.ts', import.meta.url), {
      workerData: data,
      execArgv: ['--disable-warning=ExperimentalWarning'],
    })
    started.unref()
    started.on('message', (message: FromArchiveThread) => settle(pending, message))
    const ended = (error: Error) => {
      if (thread === started) thread = undefined
      for (const [id, { reject }] of [...pending]) {
        pending.delete(id)
        reject(error)
      }
    }
    started.on('error', ended)
    started.on('exit', () => ended(new Error('the thread of the archive has ended')))
    return started
  }
  const ask = (work: ArchiveWork, { progress, signal }: ArchiveOptions = {}) =>
    new Promise<ArchiveRangeResult | ArchiveErasure | undefined>((resolve, reject) => {
      signal?.throwIfAborted()
      const id = ++lastId
      thread ??= start()
      const send = (message: ToArchiveThread) => thread?.postMessage(message)
      const stop = () => send({ kind: 'stop', id })
      const forget = () => signal?.removeEventListener('abort', stop)
      pending.set(id, {
        progress,
        resolve: (result) => (forget(), resolve(result)),
        reject: (error) => (forget(), reject(error)),
      })
      signal?.addEventListener('abort', stop)
      send({ ...work, id })
    })
  return {
    store,
    archiveRange: async (range, options) => (await ask({ kind: 'archive', range: plainRange(range) }, options)) as ArchiveRangeResult,
    eraseFromPart: async ({ table, outcome, day }, erased) =>
      (await ask({ kind: 'erase', part: { table, outcome, day }, erased })) as ArchiveErasure | undefined,
    async stop() {
      await thread?.terminate()
      store.close()
    },
  }
}

/** Without what cannot be sent to a thread. */
function plainRange({ table, outcome, day, fromId, toId, source }: RowRange): RowRange {
  return { table, outcome, day, fromId, toId, source }
}

function settle(pending: Map<number, Pending>, message: FromArchiveThread): void {
  const waiting = pending.get(message.id)
  if (waiting === undefined) return
  if ('progress' in message) {
    waiting.progress?.(message.progress)
    return
  }
  pending.delete(message.id)
  if ('result' in message) waiting.resolve(message.result)
  else waiting.reject(errorOf(message.failure))
}

function errorOf({ code, message }: { readonly code: string | undefined; readonly message: string }): Error {
  return isArchiveErrorCode(code) ? new ArchiveError(code, message) : Object.assign(new Error(message), code === undefined ? {} : { code })
}
