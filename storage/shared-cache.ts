import { randomUUID } from 'node:crypto'
import { createClient, RESP_TYPES } from '@redis/client'
import type { Logger } from 'pino'
import { LIMITS } from '../domain/limits.ts'

/** What one read found, and what a later write of the same keys needs to know. */
export interface SharedRead {
  readonly values: ReadonlyMap<string, Buffer>
  /** Of every key that was read: changes with each `forget`. Undefined: nothing can be written. */
  readonly versions: ReadonlyMap<string, string> | undefined
}

export interface SharedCounts {
  readonly hits: number
  readonly misses: number
  /** Keys that were not asked for, or not answered for, because Redis was away or slow. */
  readonly skipped: number
}

/**
 * A cache that processes share, in Redis. It can be away, slow or empty at any time: then what is asked for is not there.
 * A value that was read from the database before a change is never there after the change was announced: `forget` changes
 * the key's version, and a value is written only where the version is still that of the read before.
 */
export interface SharedCache {
  read(keys: readonly string[]): Promise<SharedRead>
  /** @param values of keys of this read; not waited for */
  write(read: SharedRead, values: ReadonlyMap<string, Buffer>): void
  /** Call it wherever a change of the key is heard of. What Redis could not be told is told when it is back. */
  forget(key: string): void
  counts(): SharedCounts
  stop(): Promise<void>
}

/** Of the values' form: processes of another version of this program do not read ours. */
const PREFIX = 'tidings:2'
/** Longer than a value lives, and than a write can come after its read. */
const VERSION_LIFE_MS = 2 * LIMITS.sharedCacheLifeMs
const RECONNECT_MAX_MS = 5000
const NOTHING: SharedRead = { values: new Map(), versions: undefined }

/** KEYS: value and version of each; ARGV: the life in milliseconds, then version and value of each. */
const WRITE = `
for i = 1, #KEYS, 2 do
  local version = redis.call('GET', KEYS[i + 1]) or ''
  if version == ARGV[i + 1] then redis.call('SET', KEYS[i], ARGV[i + 2], 'PX', ARGV[1]) end
end`

const valueOf = (key: string) => `${PREFIX}:{${key}}:value`
const versionOf = (key: string) => `${PREFIX}:{${key}}:version`

/** @param url `redis://` or `rediss://`; it need not be reachable */
export function createSharedCache(url: string, log: Logger): SharedCache {
  const link = connect(url, log)
  const { client } = link
  const counts = { hits: 0, misses: 0, skipped: 0 }
  return {
    async read(keys) {
      if (!link.isUsable()) return skip(counts, keys)
      const answers = await inTime(client.mGet(keys.flatMap((key) => [valueOf(key), versionOf(key)])))
      if (answers === undefined) {
        link.restFor(LIMITS.sharedCacheRestMs)
        return skip(counts, keys)
      }
      const values = new Map<string, Buffer>()
      keys.forEach((key, i) => {
        const value = answers[2 * i]
        if (value instanceof Buffer) values.set(key, value)
      })
      counts.hits += values.size
      counts.misses += keys.length - values.size
      return { values, versions: new Map(keys.map((key, i) => [key, String(answers[2 * i + 1] ?? '')])) }
    },
    write({ versions }, values) {
      if (versions === undefined || values.size === 0 || !link.isUsable()) return
      const keys = [...values.keys()]
      const writing = client.eval(WRITE, {
        keys: keys.flatMap((key) => [valueOf(key), versionOf(key)]),
        arguments: [String(LIMITS.sharedCacheLifeMs), ...keys.flatMap((key) => [versions.get(key) ?? '', values.get(key)!])],
      })
      writing.catch(() => undefined)
    },
    forget: (key) => link.forget(key),
    counts: () => ({ ...counts }),
    stop: () => Promise.resolve(client.destroy()),
  }
}

/** The connection, and the changes that it could not tell yet: it is not used until they are told. */
function connect(url: string, log: Logger) {
  const client = createClient({
    url,
    disableOfflineQueue: true,
    socket: { connectTimeout: LIMITS.connectTimeoutMs, reconnectStrategy: (tries) => Math.min(100 * 2 ** tries, RECONNECT_MAX_MS) },
    commandOptions: { typeMapping: { [RESP_TYPES.BLOB_STRING]: Buffer } },
  })
  const untold = new Set<string>()
  let told = false
  let restsUntilMs = 0
  let said = false

  const restFor = (ms: number): void => {
    restsUntilMs = Math.max(restsUntilMs, performance.now() + ms)
  }
  const tell = (keys: readonly string[]): Promise<unknown> =>
    Promise.all([
      ...keys.map((key) => client.set(versionOf(key), randomUUID(), { expiration: { type: 'PX', value: VERSION_LIFE_MS } })),
      client.unlink(keys.map(valueOf)),
    ])
  const tellLater = (keys: readonly string[]): void => {
    for (const key of keys) untold.add(key)
    if (untold.size <= LIMITS.sharedCacheUntoldMax && !client.isReady) return
    // Too many to remember, or Redis is there and refuses: after this time everything that was written before has expired.
    untold.clear()
    restFor(LIMITS.sharedCacheLifeMs)
  }
  client.on('ready', () => {
    const keys = [...untold]
    untold.clear()
    const telling = keys.length === 0 ? Promise.resolve() : tell(keys)
    telling.then(
      () => {
        told = true
        if (said) log.info('cache.redis-back')
        said = false
      },
      () => tellLater(keys),
    )
  })
  client.on('error', (error: Error) => {
    told = false
    if (!said) log.warn({ reason: error.message }, 'cache.redis-away')
    said = true
  })
  // It goes on connecting, and tells of each failure as an `error`.
  client.connect().catch(() => undefined)
  return {
    client,
    restFor,
    isUsable: () => told && client.isReady && performance.now() >= restsUntilMs,
    forget(key: string): void {
      if (client.isReady) tell([key]).catch(() => tellLater([key]))
      else tellLater([key])
    },
  }
}

function skip(counts: { skipped: number }, keys: readonly string[]): SharedRead {
  counts.skipped += keys.length
  return NOTHING
}

/** @returns undefined where the answer is late, or an error */
async function inTime<T>(asked: Promise<T>): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, LIMITS.sharedCacheTimeoutMs, undefined)
  })
  try {
    return await Promise.race([asked, late])
  } catch {
    return undefined
  } finally {
    clearTimeout(timer)
  }
}
