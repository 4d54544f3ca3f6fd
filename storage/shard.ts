/** What a database knows of its place among those that message data is spread over. */
import type { Shard } from '../domain/shards.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'

/** A database is not the shard that the list says it is, or the list says now that its messages were elsewhere. */
export class ShardMismatchError extends Error {
  readonly code = 'shard_mismatch'
  override readonly name = 'ShardMismatchError'
}

interface Row {
  number: number
  begins_ms: number
  ends_ms: number
}

const timeOf = (ms: number) => (ms === Infinity ? 'infinity' : ms === -Infinity ? '-infinity' : new Date(ms).toISOString())
// "shards" in ASCII, cut to 31 bits.
const LOCK_KEY = 0x73686172

async function read(db: Queryable): Promise<Row | undefined> {
  const { rows } = await db.query<Row>(
    'SELECT number, extract(epoch FROM begins)::float8 * 1000 AS begins_ms, extract(epoch FROM ends)::float8 * 1000 AS ends_ms FROM shard',
  )
  return rows[0]
}

/**
 * Makes a migrated database the shard that it is in the list, or sees to it that it is.
 * @throws {ShardMismatchError} where it is another, or days that are over would be elsewhere; nothing has changed then
 */
export async function claimShard(pool: Pool, shard: Shard, nowMs: number): Promise<void> {
  await inTransaction(pool, async (client) => {
    await client.query('SELECT pg_advisory_xact_lock($1)', [LOCK_KEY])
    const known = await read(client)
    if (known !== undefined) refuseOther(known, shard, nowMs)
    await client.query(
      `INSERT INTO shard (number, begins, ends) VALUES ($1, $2, $3)
       ON CONFLICT (one) DO UPDATE SET begins = excluded.begins, ends = excluded.ends`,
      [shard.number, timeOf(shard.fromMs), timeOf(shard.untilMs)],
    )
  })
}

/** @throws {ShardMismatchError} where the database is not this shard, as far as it knows */
export async function checkShard(db: Queryable, shard: Shard, nowMs: number): Promise<void> {
  const known = await read(db)
  if (known === undefined) throw new ShardMismatchError(`no process of shard ${shard.number} has been started yet`)
  refuseOther(known, shard, nowMs)
}

function refuseOther({ number, begins_ms: beginsMs, ends_ms: endsMs }: Row, shard: Shard, nowMs: number): void {
  if (number !== shard.number) {
    throw new ShardMismatchError(`this database is shard ${number}, not ${shard.number}: shards are only ever added at the end of the list`)
  }
  const bounds = [
    { name: 'from', was: beginsMs, is: shard.fromMs },
    { name: 'until', was: endsMs, is: shard.untilMs },
  ]
  for (const { name, was, is } of bounds) {
    if (was === is || (was > nowMs && is > nowMs)) continue
    throw new ShardMismatchError(`shard ${number} had ${name} ${timeOf(was)}, not ${timeOf(is)}: only days to come can be changed`)
  }
}
