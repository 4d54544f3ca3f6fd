/** The other databases of message data, as the API of a process reaches them. */
import { setTimeout as pause } from 'node:timers/promises'
import type { ApiDependencies, ApiShards } from '../api/dependencies.ts'
import { ApiError } from '../api/errors.ts'
import { ofShard, type ShardAddress } from '../config/shards.ts'
import { isOver } from '../domain/shards.ts'
import { checkShard } from '../storage/shard.ts'
import { connectParts, type Parts } from './parts.ts'
import { createStack, type Stack } from './stack.ts'

const AGAIN_AFTER_MS = 2000
/** A start does not wait longer for one that does not answer. */
const FIRST_TRY_MS = 10_000

/** Makes what the API needs of one shard; what is to be stopped is put on the stack. */
type Connect = (parts: Parts, stack: Stack) => ApiDependencies

/**
 * Connects to the other shards, again and again where they cannot be reached, and has them told of what this process changes.
 * Resolves when each has been tried once. Undefined where there is one database.
 */
export async function connectShards(parts: Parts, own: ApiDependencies, connect: Connect, stack: Stack): Promise<ApiShards | undefined> {
  const { config, log } = parts
  if (config.shards === undefined) return undefined
  const all = config.shards.all.filter((shard) => !isOver(shard, Date.now()))
  const sight = (number: number) => ({ number, all })
  const ready = new Map<number, ApiDependencies>([[config.shards.own.number, { ...own, shard: sight(config.shards.own.number) }]])
  const stop = new AbortController()
  const reached: Stack[] = []
  const reach = async (shard: ShardAddress): Promise<boolean> => {
    const inner = createStack(log)
    try {
      const others = await connectParts(ofShard(config, shard), log, inner)
      await checkShard(others.pool, shard, Date.now())
      const deps = connect(others, inner)
      if (others.copy !== undefined) parts.copies.add(others.copy)
      ready.set(shard.number, { ...deps, shard: sight(shard.number) })
      reached.push(inner)
      return true
    } catch (error) {
      await inner.unwind()
      log.warn({ err: error, shard: shard.number }, 'shard.not-reached')
      return false
    }
  }
  const keepReaching = async (shard: ShardAddress, tried: () => void) => {
    while (!stop.signal.aborted && !(await reach(shard).finally(tried))) {
      await pause(AGAIN_AFTER_MS, undefined, { signal: stop.signal }).catch(() => undefined)
    }
  }
  const first = all
    .filter(({ number }) => !ready.has(number))
    .map((shard) => {
      const { promise, resolve } = Promise.withResolvers<void>()
      return { tried: promise, running: keepReaching(shard, resolve) }
    })
  stack.push(async () => {
    stop.abort()
    await Promise.all(first.map(({ running }) => running))
    for (const inner of reached) await inner.unwind()
  })
  await Promise.race([Promise.all(first.map(({ tried }) => tried)), pause(FIRST_TRY_MS, undefined, { signal: stop.signal, ref: false })])
  return {
    all,
    at({ number }) {
      const deps = ready.get(number)
      if (deps === undefined) throw new ApiError('unavailable', `The database of shard ${number} cannot be reached`)
      return deps
    },
    reached: () => [...ready.values()],
  }
}
