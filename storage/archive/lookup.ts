import { LRUCache } from 'lru-cache'
import { dayOf, timeOfId, type ArchiveManifest } from '../../domain/archive.ts'
import { LIMITS } from '../../domain/limits.ts'
import { readManifest } from './manifests.ts'
import { findArchivedMessage, type Archive } from './search.ts'

/** Tells of messages that are in the database no more whether they are in the archive. */
export interface ArchiveLookup {
  /**
   * @returns the day under which the message is archived; undefined where it is not, and where that cannot be found out with
   *   bounded work: the archive does not answer, or is asked much
   */
  dayOfMessage(appId: string, messageId: string): Promise<string | undefined>
}

/** A manifest with its absence. */
interface Known {
  readonly manifest: ArchiveManifest | undefined
}

/**
 * Most ids are answered by what is remembered: a day that is not archived, an application that no object of the day has. Only
 * what is left is looked for in an object, a row group or two of it, few at a time.
 */
export function createArchiveLookup(archive: Archive, onFailure: (error: unknown) => void): ArchiveLookup {
  const days = new LRUCache<string, Known>({ max: LIMITS.archiveLookupDays, ttl: LIMITS.archiveLookupKeptMs })
  const answers = new LRUCache<string, { readonly day: string | undefined }>({
    max: LIMITS.archiveLookupAnswers,
    ttl: LIMITS.archiveLookupKeptMs,
  })
  let running = 0
  const manifestOf = async (day: string): Promise<Known> => {
    const known = days.get(day)
    if (known !== undefined) return known
    const read = { manifest: await readManifest(archive.store, { table: 'message', outcome: null, day }) }
    days.set(day, read)
    return read
  }
  const find = async (appId: string, messageId: string, day: string): Promise<string | undefined> => {
    const { manifest } = await manifestOf(day)
    const objects = manifest?.objects ?? []
    const canBe = objects.some(({ firstApp, lastApp, firstId, lastId }) => {
      return firstApp <= appId && appId <= lastApp && firstId <= messageId && messageId <= lastId
    })
    if (!canBe) return undefined
    const found = await findArchivedMessage(archive, messageId, appId)
    return found?.day
  }
  return {
    async dayOfMessage(appId, messageId) {
      const atMs = timeOfId(messageId)
      if (atMs === undefined) return undefined
      const name = `${appId} ${messageId}`
      const known = answers.get(name)
      if (known !== undefined) return known.day
      if (running >= LIMITS.archiveLookupsAtOnce) return undefined
      running++
      try {
        const day = await within(LIMITS.archiveLookupMs, find(appId, messageId, dayOf(atMs)))
        answers.set(name, { day })
        return day
      } catch (error) {
        onFailure(error)
        return undefined
      } finally {
        running--
      }
    },
  }
}

async function within<T>(limitMs: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the archive has not answered within ${limitMs} ms`)), limitMs)
  })
  work.catch(() => undefined)
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
