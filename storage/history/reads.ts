import type { Pool, Queryable } from '../pool.ts'

/** What a read of history asks besides. */
export interface ReadWants {
  /** What is read has what lies below this position, as `HistoryReads.position` gave it. */
  readonly position?: number | undefined
  /** Whether a replica may be wrong in what `work` has thrown, so that the primary is to be asked. */
  readonly again?: (error: unknown) => boolean
}

/** Where history is read: at the primary, or at a replica of it that is not far behind. */
export interface HistoryReads {
  /**
   * Runs statements that read history of an application, all at one place. A reader in this process sees what this process has
   * changed of the application before; of what others have changed what is older than the lag that is borne.
   * @param work reads only, and may run twice: where a replica fails it runs at the primary
   */
  read<T>(appId: string, work: (db: Queryable) => Promise<T>, wants?: ReadWants): Promise<T>
  /** This process has changed something of the application that reads of history show, or has tried to. */
  wrote(appId: string): void
  /** Where the log is now: below it lies all that was committed. Undefined where there is no replica that it could be held against. */
  readonly position?: (() => Promise<number>) | undefined
}

export function createReadsOfPrimary(pool: Pool): HistoryReads {
  return { read: (_appId, work) => work(pool), wrote: () => undefined }
}

/** Runs a change of an application's history. It counts as made also where it fails: its commit may be what was not answered. */
export async function writing<T>(history: HistoryReads, appId: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } finally {
    history.wrote(appId)
  }
}
