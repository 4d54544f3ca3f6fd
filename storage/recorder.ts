import { LIMITS } from '../domain/limits.ts'
import { float8Array, int2Array, int4Array, textArray, uuidArray } from './arrays.ts'
import { isUniqueViolation } from './faults.ts'
import { createGroupCommit, createLine } from './group-commit.ts'
import { storeOperationalEvents, type OperationalEvents } from './operational-events.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'
import type { MailboxWake, Record } from './records.ts'
import { writeMarkingLate } from './rollup-late.ts'

/** Writes what deliveries did, in groups. A call resolves after its row is committed. */
export interface Recorder {
  record(record: Record): Promise<void>
  /** The group has reached a workflow: its outbox rows go with the next write, or with the sweep. */
  forgetGroup(groupId: string): void
  drained(): Promise<void>
}

export interface RecorderDependencies {
  readonly pool: Pool
  /** As of a group commit. */
  readonly gapMs?: (() => number) | undefined
  /** Told after the commit, for each mailbox that has to be woken. */
  readonly onWake: (wake: MailboxWake) => void
  /** Finds what is to be told of the attempts, which is stored with them. Absent: nobody is told. */
  readonly operational?: Pick<OperationalEvents, 'of'> | undefined
}

export function createRecorder(deps: RecorderDependencies): Recorder {
  let groupsDone: string[] = []
  let timer: NodeJS.Timeout | undefined
  const writes = createGroupCommit<Record | { readonly flush: true }, undefined>({
    max: LIMITS.attemptsPerFlush,
    gapMs: deps.gapMs,
    enough: WORTH_A_WRITE,
    queue: createLine(),
    onPassingFault: 'retry',
    async write(items) {
      const records = items.filter((item): item is Record => !('flush' in item))
      // A copy: what is added while the write is under way is not in it.
      const groups = [...groupsDone]
      const events = (await deps.operational?.of(records)) ?? []
      const wakes = await writeMarkingLate(deps.pool, records, () =>
        events.length === 0
          ? writeApart(deps.pool, records, groups)
          : inTransaction(deps.pool, async (client) => {
              await storeOperationalEvents(client, events)
              return writeRecords(client, records, groups)
            }),
      )
      groupsDone = groupsDone.slice(groups.length)
      for (const wake of wakes) deps.onWake(wake)
      return items.map(() => undefined)
    },
  })
  return {
    record: (record) => writes.add(record),
    forgetGroup(groupId) {
      groupsDone.push(groupId)
      timer ??= setTimeout(() => {
        timer = undefined
        // The sweep deletes what this write does not.
        if (groupsDone.length > 0) writes.add({ flush: true }).catch(() => undefined)
      }, FORGET_GROUP_WITHIN_MS)
    },
    async drained() {
      clearTimeout(timer)
      if (groupsDone.length > 0) await writes.add({ flush: true })
      await writes.drained()
    },
  }
}

/** Attempts that cost some five times what a write costs by itself: waiting for more would save little. */
const WORTH_A_WRITE = 200

// Most groups have a record within this time that takes them along.
const FORGET_GROUP_WITHIN_MS = 500

export const ATTEMPT_COLUMNS = `message_id, id, endpoint_id, app_id, event_type, url, status, response_code, response_body, duration_ms,
  trigger, group_id, run_id, next_attempt_at, created_at`

const FORGET_GROUPS = 'WITH gone AS (DELETE FROM outbox WHERE group_id = ANY($16::text[]))'

const INSERT_ATTEMPTS = `
INSERT INTO attempt (${ATTEMPT_COLUMNS})
SELECT a, b, c, d, e, f, g, h, i, j, k, l, m, to_timestamp(n / 1000), to_timestamp(o / 1000)
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::smallint[], $8::int[], $9::text[], $10::int[],
  $11::smallint[], $12::text[], $13::uuid[], $14::float8[], $15::float8[]) AS t (a, b, c, d, e, f, g, h, i, j, k, l, m, n, o)`

// A write whose answer was lost with the connection is repeated, and may find its attempts there.
const UNLESS_THERE = 'ON CONFLICT DO NOTHING'

const WRITE_SUCCESSES = { name: 'record-successes', text: `${FORGET_GROUPS} ${INSERT_ATTEMPTS}` }
const WRITE_SUCCESSES_AGAIN = { name: 'record-successes-again', text: `${WRITE_SUCCESSES.text} ${UNLESS_THERE}` }

// Rows are locked in the order of their keys, so that two workers that write the same ones do not wait in a ring.
// A mailbox is woken where it is idle, or would wake too late: not by each of those that wait for the same end of a breaker.
// A delivery that was cancelled while its attempt was under way is not begun again by that attempt's failure.
const WRITE_CHANGES = `
WITH attempts AS (${INSERT_ATTEMPTS} ${UNLESS_THERE}),
gone AS (DELETE FROM outbox WHERE group_id = ANY($16::text[])),
waiting AS (
  SELECT * FROM unnest($17::text[], $18::text[], $19::text[], $20::text[], $21::int[], $22::smallint[], $23::float8[], $24::text[], $25::boolean[])
    AS t (message_id, endpoint_id, app_id, state, attempts, trigger, next_ms, group_id, retried)
), kept AS (
  INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, trigger, next_at, group_id, retried)
  SELECT message_id, endpoint_id, app_id, state, attempts, trigger, to_timestamp(next_ms / 1000), group_id, retried
  FROM waiting ORDER BY message_id, endpoint_id
  ON CONFLICT (message_id, endpoint_id) DO UPDATE SET state = excluded.state, attempts = excluded.attempts, trigger = excluded.trigger,
    next_at = excluded.next_at, group_id = excluded.group_id, updated_at = now(),
    retried = excluded.retried OR (delivery.retried AND delivery.state IN ('retrying', 'parked'))
  WHERE delivery.state <> 'cancelled' OR delivery.group_id <> excluded.group_id
), ended AS (
  DELETE FROM delivery USING unnest($26::text[], $27::text[]) AS t (message_id, endpoint_id)
  WHERE delivery.message_id = t.message_id AND delivery.endpoint_id = t.endpoint_id
), boxes AS (
  INSERT INTO mailbox (endpoint_id, idle, wake_at)
  SELECT endpoint_id, false, to_timestamp(min(next_ms) / 1000) FROM waiting WHERE state = 'parked' GROUP BY endpoint_id ORDER BY endpoint_id
  ON CONFLICT (endpoint_id) DO UPDATE SET idle = false, wake_at = excluded.wake_at
  WHERE mailbox.idle OR mailbox.wake_at IS NULL OR mailbox.wake_at > excluded.wake_at
  RETURNING endpoint_id
)
SELECT endpoint_id FROM boxes`

/** Looking for attempts that are there already is a quarter of what writing them costs, so it is done where one is. */
async function writeApart(pool: Pool, records: readonly Record[], groups: readonly string[]): Promise<MailboxWake[]> {
  try {
    return await writeRecords(pool, records, groups, { perhapsThere: false })
  } catch (error) {
    if (!isUniqueViolation(error)) throw error
    return writeRecords(pool, records, groups)
  }
}

async function writeRecords(
  db: Queryable,
  records: readonly Record[],
  groups: readonly string[],
  { perhapsThere } = { perhapsThere: true },
): Promise<MailboxWake[]> {
  const attempts = attemptColumns(records)
  const waiting = latestPerDelivery(records.filter((record) => 'attempts' in record.change))
  const ended = records.filter((record) => record.change.state === 'delivered' && record.change.hadRow)
  if (waiting.length === 0 && ended.length === 0) {
    await db.query({ ...(perhapsThere ? WRITE_SUCCESSES_AGAIN : WRITE_SUCCESSES), values: [...attempts, groups] })
    return []
  }
  const { rows } = await db.query<{ endpoint_id: string }>({
    name: 'record-changes',
    text: WRITE_CHANGES,
    values: [
      ...attempts,
      groups,
      waiting.map((record) => record.messageId),
      waiting.map((record) => record.endpointId),
      waiting.map((record) => record.appId),
      waiting.map((record) => record.change.state),
      waiting.map((record) => ('attempts' in record.change ? record.change.attempts : 0)),
      waiting.map((record) => record.trigger),
      waiting.map((record) => nextAtMs(record)),
      waiting.map((record) => record.groupId),
      waiting.map((record) => !('retried' in record.change && record.change.retried === false)),
      ended.map((record) => record.messageId),
      ended.map((record) => record.endpointId),
    ],
  })
  return rows.map((row) => ({
    endpointId: row.endpoint_id,
    wakeAtMs: Math.min(
      ...waiting.filter((one) => one.endpointId === row.endpoint_id && one.change.state === 'parked').map((one) => nextAtMs(one)!),
    ),
  }))
}

export function nextAtMs(record: Record): number | null {
  return 'nextAtMs' in record.change ? record.change.nextAtMs : null
}

/** One statement may not touch a row twice. */
function latestPerDelivery(records: readonly Record[]): Record[] {
  return [...new Map(records.map((record) => [`${record.messageId} ${record.endpointId}`, record])).values()]
}

/** The values of `ATTEMPT_COLUMNS`, each a column of its own. */
export function attemptColumns(records: readonly Record[]): Buffer[] {
  const made = records.flatMap((record) => (record.attempt === undefined ? [] : [record.attempt]))
  return [
    textArray(made.map((one) => one.messageId)),
    textArray(made.map((one) => one.id)),
    textArray(made.map((one) => one.endpointId)),
    textArray(made.map((one) => one.appId)),
    textArray(made.map((one) => one.eventType)),
    textArray(made.map((one) => one.url)),
    int2Array(made.map((one) => one.status)),
    int4Array(made.map((one) => one.responseCode)),
    textArray(made.map((one) => one.responseBody)),
    int4Array(made.map((one) => one.durationMs)),
    int2Array(made.map((one) => one.trigger)),
    textArray(made.map((one) => one.groupId)),
    uuidArray(made.map((one) => one.runId)),
    float8Array(records.flatMap((record) => (record.attempt === undefined ? [] : [nextAtMs(record)]))),
    float8Array(made.map((one) => one.createdAtMs)),
  ]
}
