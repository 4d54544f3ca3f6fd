/**
 * Which database a message and all that is delivered of it are in, where there are several. An application's messages of one
 * day (UTC) are in one shard; the ids tell the day, so that nothing has to be looked up.
 */
import { timeOfId } from './archive.ts'
import { spreadOf } from './backoff.ts'
import { LIMITS } from './limits.ts'

const DAY_MS = 86_400_000

/** One database of message data. Its number is its place in the list: it never changes. */
export interface Shard {
  readonly number: number
  /** The first instant of the first day whose messages it takes; -Infinity: it has been there from the beginning. */
  readonly fromMs: number
  /** The first instant of the first day whose messages it takes no more; Infinity: there is none yet. */
  readonly untilMs: number
}

/** Whether messages of a time may be in it. */
export function takes({ fromMs, untilMs }: Shard, atMs: number): boolean {
  return fromMs <= atMs && atMs < untilMs
}

/**
 * The shard of the messages that an application publishes at a time: of those that take messages then, the one with the
 * highest weight for the application. When one is added, one application of so many as there are shards then moves to it, and none
 * moves between the others (rendezvous hashing).
 * @throws {RangeError} where none takes messages then
 */
export function shardOf<T extends Shard>(shards: readonly T[], appId: string, atMs: number): T {
  const among = shards.filter((shard) => takes(shard, atMs))
  if (among.length === 0) throw new RangeError('no shard takes messages of this time')
  const chosen = shardAmong(
    among.map(({ number }) => number),
    appId,
  )
  return among.find(({ number }) => number === chosen)!
}

/** The number of an application's shard among these, of which there is one at least. */
export function shardAmong(numbers: readonly number[], appId: string): number {
  return numbers.reduce((best, number) => (spreadOf(number, appId) > spreadOf(best, appId) ? number : best))
}

/** The shard of a message by its id. */
export function shardOfMessage<T extends Shard>(shards: readonly T[], appId: string, messageId: string): T | undefined {
  const atMs = timeOfId(messageId)
  return atMs === undefined || !shards.some((shard) => takes(shard, atMs)) ? undefined : shardOf(shards, appId, atMs)
}

/**
 * The shards that have messages of an application, or may get some now: the one of now first, then those before it.
 * What a shard has is gone some time after its end.
 */
export function shardsOf<T extends Shard>(shards: readonly T[], appId: string, nowMs: number): T[] {
  const changesMs = shards.flatMap(({ fromMs, untilMs }) => [fromMs, untilMs]).filter((ms) => ms <= nowMs)
  const timesMs = [...new Set([nowMs, ...changesMs])].sort((a, b) => b - a)
  const chosen = timesMs.flatMap((ms) => (shards.some((shard) => takes(shard, ms)) ? [shardOf(shards, appId, ms)] : []))
  return [...new Set(chosen)].filter((shard) => !isOver(shard, nowMs))
}

/** Whether nothing of a shard is kept any longer. */
export function isOver({ untilMs }: Pick<Shard, 'untilMs'>, nowMs: number): boolean {
  return untilMs + (LIMITS.payloadRetentionMaxDays + 1) * DAY_MS <= nowMs
}

/** What is wrong with a list of shards; undefined: nothing. */
export function problemOf(shards: readonly Shard[]): string | undefined {
  const wrong = shards.find(({ fromMs, untilMs }) => fromMs >= untilMs)
  if (wrong !== undefined) return `shard ${wrong.number} ends before it begins`
  const changesMs = [-Infinity, ...shards.flatMap(({ fromMs, untilMs }) => [fromMs, untilMs]).filter(Number.isFinite)]
  const without = changesMs.find((ms) => !shards.some((shard) => takes(shard, ms)))
  if (without === undefined) return undefined
  return without === -Infinity ? 'the first shard has no beginning: leave out its from' : 'on some day no shard takes messages'
}
