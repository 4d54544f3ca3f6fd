import { LRUCache } from 'lru-cache'
import { expectedUses, isWorthRefreshing } from '../domain/cache-life.ts'
import { LIMITS } from '../domain/limits.ts'
import { createGroupCommit, createLine, type GroupCommit } from './group-commit.ts'

/** What was asked of a cache since it was made, and what it holds. */
export interface CacheCounts {
  /** Answered from memory, or by a load that was under way. */
  readonly hits: number
  readonly misses: number
  /** Entries that were loaded again before their life ended, and that were not, because no use was expected. */
  readonly refreshes: number
  readonly leftToExpire: number
  readonly entries: number
  /** As estimated by `bytesOf`. */
  readonly bytes: number
}

/** Values in memory by key, loaded in groups, refreshed before they expire where they will be asked for. */
export interface RefreshingCache<V> {
  /** @returns the value, loaded where it is not known; rejects as the load does */
  get(key: string): Promise<V>
  /** Loads what is not known of these. @returns when that is over, also where it failed */
  warm(keys: readonly string[]): Promise<void>
  delete(key: string): void
  /** What is being loaded is used by those who asked, and kept for nobody else. */
  deleteLoading(): void
  clear(): void
  counts(): CacheCounts
}

export interface RefreshingCacheOptions<V> {
  /** Over it the entry used longest ago is dropped. */
  readonly maxBytes: number
  /** Loads several values; a key without one is loaded again by the next who asks. */
  readonly load: (keys: readonly string[]) => Promise<ReadonlyMap<string, V>>
  readonly bytesOf: (value: V) => number
  /** A value is in memory from now on, and from now on no more. */
  readonly onKeep?: (key: string, value: V) => void
  readonly onDrop?: (key: string, value: V) => void
  /** False: every entry is left to expire. */
  readonly predicts?: boolean
  /** That of `LIMITS` unless told. */
  readonly life?: CacheLife
}

export interface CacheLife {
  readonly ms: number
  /** How long before its end an entry that will be used is loaded again. */
  readonly refreshBeforeMs: number
  readonly sweepEveryMs: number
}

/** A promise is kept, not its value: who asks while a load is under way waits for the same one. */
interface Entry<V> {
  readonly key: string
  readonly value: Promise<V | undefined>
  /** By `performance.now()`; undefined while it is being loaded. */
  loadedAtMs: number | undefined
  kept: V | undefined
  uses: number
  /** Of the uses of this life, before it began. */
  readonly expected: number | undefined
}

type Loads<V> = Pick<GroupCommit<{ readonly key: string }, V | undefined>, 'add'>

const LIFE: CacheLife = { ms: LIMITS.cacheLifeMs, refreshBeforeMs: LIMITS.cacheRefreshBeforeMs, sweepEveryMs: 1000 }

/**
 * An entry that is deleted while its load is under way is not kept by that load: what was read before a change is used by
 * those who asked before it, and by nobody after it.
 */
export function createRefreshingCache<V extends object>(options: RefreshingCacheOptions<V>): RefreshingCache<V | undefined> {
  const { load, predicts = true, life = LIFE } = options
  const counts = { hits: 0, misses: 0, refreshes: 0, leftToExpire: 0 }
  const loading = new Set<Entry<V>>()
  // Whoever asks for what is not known waits for no refresh.
  const wanted = createLoads(load)
  const ahead = createLoads(load)

  const enter = (key: string, loads: Loads<V>): Entry<V> => {
    const entry = newEntry(key, loads, undefined)
    entries.set(key, entry, { size: 1 })
    loading.add(entry)
    const loaded = (value: V | undefined): void => {
      loading.delete(entry)
      if (!isKept(entry)) return
      if (value === undefined) entries.delete(key)
      else keep(entry, value)
    }
    entry.value.then(loaded, () => loaded(undefined))
    return entry
  }
  const refresh = (old: Entry<V>): void => {
    if (!predicts) return
    const livedShare = (performance.now() - old.loadedAtMs!) / life.ms
    const expected = expectedUses(old.expected, old.uses, Math.min(livedShare, 1))
    if (!isWorthRefreshing(expected)) {
      counts.leftToExpire++
      return
    }
    counts.refreshes++
    // The old value answers until the new one is there; a change of it meanwhile drops both.
    const fresh = newEntry(old.key, ahead, expected)
    const loaded = (value: V | undefined): void => {
      if (!isKept(old)) return
      if (value === undefined) entries.delete(old.key)
      else keep(fresh, value)
    }
    fresh.value.then(loaded, () => undefined)
  }
  const { entries, isKept, keep } = createEntries(options, refresh)

  return {
    get(key) {
      const known = entries.get(key)
      if (known !== undefined) {
        counts.hits++
        known.uses++
        return known.value
      }
      counts.misses++
      return enter(key, wanted).value
    },
    async warm(keys) {
      const unknown = keys.filter((key) => !entries.has(key)).map((key) => enter(key, ahead))
      await Promise.allSettled(unknown.map(({ value }) => value))
    },
    delete: (key) => void entries.delete(key),
    deleteLoading() {
      for (const entry of loading) if (isKept(entry)) entries.delete(entry.key)
    },
    clear: () => entries.clear(),
    counts: () => ({ ...counts, entries: entries.size, bytes: entries.calculatedSize }),
  }
}

function newEntry<V>(key: string, loads: Loads<V>, expected: number | undefined): Entry<V> {
  return { key, value: loads.add({ key }), loadedAtMs: undefined, kept: undefined, uses: 0, expected }
}

/** @param beforeEnd told of an entry some time before the end of its life */
function createEntries<V extends object>(options: RefreshingCacheOptions<V>, beforeEnd: (entry: Entry<V>) => void) {
  const { maxBytes, bytesOf, onKeep, onDrop, life = LIFE } = options
  const entries = new LRUCache<string, Entry<V>>({
    maxSize: maxBytes,
    ttl: life.ms,
    dispose(entry, key) {
      lives.forget(entry)
      if (entry.kept !== undefined) onDrop?.(key, entry.kept)
    },
  })
  const isKept = (entry: Entry<V>) => entries.peek(entry.key, { allowStale: true }) === entry
  const lives = createLives<V>(life, { beforeEnd, atEnd: (entry) => void entries.delete(entry.key) })
  const keep = (entry: Entry<V>, value: V): void => {
    entry.loadedAtMs = performance.now()
    // The size of a value that is there already would not be looked at.
    entries.delete(entry.key)
    entry.kept = value
    entries.set(entry.key, entry, { size: bytesOf(value) })
    onKeep?.(entry.key, value)
    lives.begin(entry)
  }
  return { entries, isKept, keep }
}

function createLoads<V>(load: RefreshingCacheOptions<V>['load']): Loads<V> {
  return createGroupCommit({
    max: LIMITS.cacheLoadGroup,
    queue: createLine(),
    async write(asked) {
      const found = await load(asked.map(({ key }) => key))
      return asked.map(({ key }) => found.get(key))
    },
    onPassingFault: 'reject',
  })
}

/** Tells of the ends of entries' lives: all live equally long, so the order of their loads is that of their ends. */
function createLives<V>(life: CacheLife, { beforeEnd, atEnd }: { beforeEnd(entry: Entry<V>): void; atEnd(entry: Entry<V>): void }) {
  const living = new Set<Entry<V>>()
  const ending = new Set<Entry<V>>()
  let timer: NodeJS.Timeout | undefined
  const take = (from: Set<Entry<V>>, loadedBeforeMs: number, one: (entry: Entry<V>) => void): void => {
    for (const entry of from) {
      if (entry.loadedAtMs! > loadedBeforeMs) return
      from.delete(entry)
      one(entry)
    }
  }
  const sweep = (): void => {
    const endMs = performance.now() - life.ms
    take(living, endMs + life.refreshBeforeMs, (entry) => {
      ending.add(entry)
      beforeEnd(entry)
    })
    take(ending, endMs, atEnd)
    timer = living.size + ending.size > 0 ? setTimeout(sweep, life.sweepEveryMs).unref() : undefined
  }
  return {
    begin(entry: Entry<V>): void {
      living.add(entry)
      timer ??= setTimeout(sweep, life.sweepEveryMs).unref()
    },
    /** What was dropped is held by nothing. */
    forget(entry: Entry<V>): void {
      living.delete(entry)
      ending.delete(entry)
    },
  }
}
