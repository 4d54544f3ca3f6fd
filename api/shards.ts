/** Operations on message data that is in several databases: each is served from the one that has it, or put together from all. */
import { shardOf, shardOfMessage, shardsOf, type Shard } from '../domain/shards.ts'
import { mergePages } from '../storage/page.ts'
import type { ApiDependencies, ApiShards } from './dependencies.ts'
import { newId } from '../domain/ids.ts'
import { ApiError } from './errors.ts'
import { pageReply, type Listed } from './query.ts'
import type { Handler, Reply } from './routing.ts'
import { cachedApplicationOf } from './scope.ts'

/** Puts the answers of several databases together; of an application those of now come first. There is one at least. */
export type Merge = (replies: readonly Reply[]) => Reply

/**
 * Where an operation finds what it is about.
 * - `of: 'application'`: in the shard that takes the application's messages now
 * - `of: 'message'`: in the shard of the message that the path names
 * - `all`: in every shard that has messages of the application; without one in the path, in every shard
 * - `first`: in the first of these that has some, beginning with the oldest
 */
export type Across = { readonly of: 'application' | 'message' } | { readonly all: Merge } | { readonly first: (reply: Reply) => boolean }

/** The same handler, served from the shards. Whatever does not exist anywhere is answered by this process's own. */
export function acrossShards(handle: Handler, across: Across, shards: ApiShards): Handler {
  return async (given) => {
    const call = { ...given, body: once(given.body) }
    const at = (shard: Shard, more: Partial<ApiDependencies> = {}) => handle({ ...call, deps: { ...shards.at(shard), ...more } })
    const appName = call.path['app_id']
    const nowMs = Date.now()
    if (appName === undefined) return everywhere(shards.all, across, at)
    const application = await cachedApplicationOf(call.deps, call.caller, appName)
    if (application === undefined) return handle(call)
    if (!('of' in across)) return everywhere(shardsOf(shards.all, application.id, nowMs), across, at)
    if (across.of === 'application') return at(shardOf(shards.all, application.id, nowMs))
    const placed = shardOfMessage(shards.all, application.id, call.path['msg_id'] ?? '')
    const others = shardsOf(shards.all, application.id, nowMs)
    return firstFound([...new Set([...(placed === undefined ? [] : [placed]), ...others])], at)
  }
}

type At = (shard: Shard, more?: Partial<ApiDependencies>) => Promise<Reply>

async function everywhere(shards: readonly Shard[], across: Across, at: At): Promise<Reply> {
  if ('first' in across) {
    let reply: Reply | undefined
    for (const shard of [...shards].reverse()) {
      reply = await at(shard)
      if (across.first(reply)) break
    }
    return reply!
  }
  // A task that is begun in several shards is one task to whoever asked for it.
  const taskId = newId('qtask')
  const settled = await Promise.allSettled(shards.map((shard) => at(shard, { taskId })))
  const failed = settled.flatMap((one) => (one.status === 'rejected' ? [one.reason as unknown] : []))
  const replies = settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))
  const reason = failed.find((error) => !isNotFound(error)) ?? (replies.length === 0 ? failed[0] : undefined)
  if (reason !== undefined) throw asError(reason)
  return 'all' in across && replies.length > 1 ? across.all(replies) : replies[0]!
}

async function firstFound(shards: readonly Shard[], at: At): Promise<Reply> {
  let reason: unknown
  for (const shard of shards) {
    try {
      return await at(shard)
    } catch (error) {
      if (!isNotFound(error)) throw error
      reason = error
    }
  }
  throw asError(reason)
}

const asError = (reason: unknown): Error => (reason instanceof Error ? reason : new Error(String(reason)))

const isNotFound = (error: unknown): boolean => error instanceof ApiError && error.code === 'not_found'

function once<T>(work: () => Promise<T>): () => Promise<T> {
  let done: Promise<T> | undefined
  return () => (done ??= work())
}

type Item = Readonly<Record<string, unknown>>

/** One page of the list, in its order. @param join makes one of the items that several shards have of one thing */
export const mergeLists =
  (join: (items: readonly Item[]) => Item = ([first]) => first!): Merge =>
  (replies) => {
    const pages = replies.map(({ json, parts }) => {
      const { data, done } = json as { readonly data: readonly Item[]; readonly done: boolean }
      const { cursors } = parts as Listed
      return { rows: data.map((item, i) => ({ id: cursors[i]!, item })), done }
    })
    const merged = mergePages(pages, (replies[0]!.parts as Listed).page)
    const items = Map.groupBy(
      pages.flatMap(({ rows }) => rows),
      ({ id }) => id,
    )
    const show = ({ id }: { readonly id: string }) => join(items.get(id)!.map(({ item }) => item))
    return { status: 200, json: pageReply(merged, ({ id }) => id, show) }
  }

/** Sums of what is counted. */
export const mergeSums: Merge = (replies) => {
  const sums = new Map<string, number>()
  for (const { json } of replies) {
    for (const [name, count] of Object.entries(json as Record<string, number>)) sums.set(name, (sums.get(name) ?? 0) + count)
  }
  return { status: replies[0]!.status, json: Object.fromEntries(sums) }
}

/** Of what is the same everywhere. */
export const takeFirst: Merge = ([first]) => first!
