/** The way in for messages where message data is in several databases. */
import { EventIdConflictError, RepeatedKeyError } from '../domain/errors.ts'
import type { NewMessage } from '../domain/message.ts'
import { shardOf, shardsOf, type Shard } from '../domain/shards.ts'
import { findPublished } from '../storage/idempotency.ts'
import { findTakenEventIds, type StoredMessage } from '../storage/history/messages.ts'
import type { ApiDependencies, ApiShards, Intake } from './dependencies.ts'

/** Accepts each message in the shard of its application and time. What is of one message already is looked up by its shard. */
export function createShardedIntake(own: Intake, shards: ApiShards): Intake {
  const of = ({ appId, createdAtMs }: NewMessage) => shards.at(shardOf(shards.all, appId, createdAtMs))
  return {
    ...own,
    async accept(message) {
      const deps = of(message)
      const before = earlier(shards, deps, message)
      if (before.length > 0 && message.idempotencyKey !== undefined && (await findIn(before, message.idempotencyKey)) !== undefined) {
        throw new RepeatedKeyError('a message was published with this idempotency key before')
      }
      const [taken] = await takenIn(before, [message])
      if (taken !== undefined) throw new EventIdConflictError(`a message with eventId ${message.eventId} exists already`)
      await deps.intake.accept(message)
    },
    async acceptAll(messages) {
      const [first] = messages
      if (first === undefined) return []
      const deps = of(first)
      const taken = await takenIn(earlier(shards, deps, first), messages)
      return taken.length > 0 ? taken : deps.intake.acceptAll(messages)
    },
  }
}

/** Databases that the application was in before: event ids and keys that were taken there stay taken. */
function earlier(shards: ApiShards, now: ApiDependencies, { appId, createdAtMs }: NewMessage): ApiDependencies[] {
  const others = shardsOf(shards.all, appId, createdAtMs).filter(({ number }) => number !== now.shard?.number)
  return others.map((shard: Shard) => shards.at(shard))
}

/** @returns the positions of messages whose event id is taken in one of the databases */
async function takenIn(before: readonly ApiDependencies[], messages: readonly NewMessage[]): Promise<number[]> {
  const asked = messages.flatMap(({ eventId }) => eventId ?? [])
  if (before.length === 0 || asked.length === 0) return []
  const found = await Promise.all(before.map(({ pool }) => findTakenEventIds(pool, messages[0]!.appId, asked)))
  return messages.flatMap(({ eventId }, i) => (eventId !== null && found.some((taken) => taken.has(eventId)) ? [i] : []))
}

async function findIn(before: readonly Pick<ApiDependencies, 'pool'>[], key: string): Promise<StoredMessage | undefined> {
  const found = await Promise.all(before.map(({ pool }) => findPublished(pool, key)))
  return found.find((message) => message !== undefined)
}

/** The message that was published with a key, in whichever shard. */
export function findPublishedIn(shards: ApiShards, key: string): Promise<StoredMessage | undefined> {
  return findIn(
    shards.all.map((shard) => shards.at(shard)),
    key,
  )
}
