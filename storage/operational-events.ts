import { LRUCache } from 'lru-cache'
import { newId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import type { NewMessage } from '../domain/message.ts'
import { FAILING_AFTER_ATTEMPTS, MANAGEMENT_ORGANISATION, type OperationalEventType } from '../domain/operational.ts'
import { STATUS_SUCCESS } from '../domain/outcome.ts'
import { acceptMessages } from './accept.ts'
import { notifyOutbox } from './outbox.ts'
import type { Pool, Queryable } from './pool.ts'
import type { AttemptRow, Record } from './records.ts'

const APPLICATIONS_MAX = 20_000
const TTL_MS = 60_000
const DAY_MS = 86_400_000

/** Who is told of an application's events: the organisation's operational endpoints. */
interface Subscription {
  readonly managementAppId: string
  readonly appUid: string | null
  /** Null: every type. */
  readonly types: ReadonlySet<string> | null
}

/** An operational event that waits to be stored. `key` is the same when the same event is stored again. */
interface OperationalEvent {
  readonly type: OperationalEventType
  readonly key: string | null
  readonly data: object
}

// Operational endpoints of an organisation; none for the organisation that owns them, so that no event leads to another.
const SUBSCRIPTION = `
SELECT m.id AS management_id, bool_or(e.event_types IS NULL) AS all_types, array_agg(DISTINCT t.name) AS types
FROM application m
JOIN endpoint e ON e.app_id = m.id AND e.deleted_at IS NULL AND NOT e.disabled
LEFT JOIN LATERAL unnest(e.event_types) AS t (name) ON true
WHERE m.org_id = '${MANAGEMENT_ORGANISATION}' AND m.deleted_at IS NULL AND m.uid = $1 AND $1 <> '${MANAGEMENT_ORGANISATION}'
GROUP BY m.id`

interface SubscriptionRow {
  management_id: string
  all_types: boolean
  types: (string | null)[]
}

function toSubscription(row: SubscriptionRow, appUid: string | null): Subscription {
  const types = row.all_types ? null : new Set(row.types.filter((type) => type !== null))
  return { managementAppId: row.management_id, appUid, types }
}

function wants(subscription: Subscription | undefined, type: OperationalEventType): subscription is Subscription {
  return subscription !== undefined && (subscription.types === null || subscription.types.has(type))
}

function toMessage(managementAppId: string, { type, key, data }: OperationalEvent): NewMessage {
  const createdAtMs = Date.now()
  return {
    id: newId('msg', createdAtMs),
    appId: managementAppId,
    eventType: type,
    eventId: key,
    channels: null,
    payload: JSON.stringify({ type, data }),
    createdAtMs,
    expiresAtMs: createdAtMs + LIMITS.payloadRetentionMaxDays * DAY_MS,
  }
}

/** Stores events with their outbox rows. Call it in the transaction of what they tell of. */
export async function storeOperationalEvents(db: Queryable, messages: readonly NewMessage[]): Promise<void> {
  if (messages.length === 0) return
  await acceptMessages(db, messages, false, 0)
  await notifyOutbox(db)
}

/** What a change of an endpoint is told with. */
export interface EndpointEvent {
  readonly type: OperationalEventType
  readonly orgId: string
  readonly application: { readonly id: string; readonly uid: string | null }
  readonly endpoint: { readonly id: string; readonly uid: string | null }
  readonly more?: object
}

/** Tells of a change of an endpoint, where its organisation wants to hear of it. Call it in the transaction of the change. */
export async function tellOfEndpoint(db: Queryable, event: EndpointEvent): Promise<void> {
  const { rows } = await db.query<SubscriptionRow>({ name: 'operational-of-organisation', text: SUBSCRIPTION, values: [event.orgId] })
  const subscription = rows[0] === undefined ? undefined : toSubscription(rows[0], event.application.uid)
  if (!wants(subscription, event.type)) return
  const { application, endpoint } = event
  const data = { appId: application.id, appUid: application.uid, endpointId: endpoint.id, endpointUid: endpoint.uid, ...event.more }
  await storeOperationalEvents(db, [toMessage(subscription.managementAppId, { type: event.type, key: null, data })])
}

/** What attempts are told of to those who want to hear of it, found without a query where nobody does. */
export interface OperationalEvents {
  /** @returns messages to be stored in the transaction that records the attempts */
  of(records: readonly Record[]): Promise<NewMessage[]>
  /** An application was changed: what is known of it is looked up again. */
  forget(appId: string): void
  /** Operational endpoints were changed. */
  forgetAll(): void
}

export function createOperationalEvents(pool: Pool): OperationalEvents {
  const known = new LRUCache<string, Promise<{ subscription: Subscription | undefined }>>({ max: APPLICATIONS_MAX, ttl: TTL_MS })
  const subscriptionOf = (appId: string) => {
    const found = known.get(appId)
    if (found !== undefined) return found
    const loading = loadSubscription(pool, appId)
    known.set(appId, loading)
    loading.catch(() => known.delete(appId))
    return loading
  }
  return {
    async of(records) {
      const found: Candidate[] = []
      for (const record of records) {
        const type = typeOf(record)
        if (type === undefined || record.attempt === undefined) continue
        const { subscription } = await subscriptionOf(record.appId)
        if (wants(subscription, type)) found.push({ type, attempt: record.attempt, subscription })
      }
      return found.length === 0 ? [] : toMessages(pool, found)
    },
    forget: (appId) => void known.delete(appId),
    forgetAll: () => known.clear(),
  }
}

async function loadSubscription(pool: Pool, appId: string): Promise<{ subscription: Subscription | undefined }> {
  const { rows } = await pool.query<SubscriptionRow & { app_uid: string | null }>({
    name: 'operational-of-application',
    text: `SELECT a.uid AS app_uid, s.* FROM application a CROSS JOIN LATERAL (${SUBSCRIPTION.replaceAll('$1', 'a.org_id')}) s WHERE a.id = $1`,
    values: [appId],
  })
  return { subscription: rows[0] === undefined ? undefined : toSubscription(rows[0], rows[0].app_uid) }
}

interface Candidate {
  readonly type: OperationalEventType
  readonly attempt: AttemptRow
  readonly subscription: Subscription
}

/** Which event an attempt may be; whether a success is a recovery only its history says. */
function typeOf({ change }: Record): OperationalEventType | undefined {
  if (change.state === 'dead') return 'message.attempt.exhausted'
  if (change.state === 'delivered') return change.hadRow ? 'message.attempt.recovered' : undefined
  const waits = change.state === 'retrying' || change.state === 'parked'
  return waits && change.attempts === FAILING_AFTER_ATTEMPTS ? 'message.attempt.failing' : undefined
}

interface Context {
  event_id: string | null
  endpoint_uid: string | null
  recovered: boolean
}

async function toMessages(pool: Pool, candidates: readonly Candidate[]): Promise<NewMessage[]> {
  const { rows } = await pool.query<Context>({
    name: 'operational-context',
    // Recovered: nothing was delivered before, and it was told that the delivery fails, or that its attempts ran out.
    text: `SELECT m.event_id, e.uid AS endpoint_uid,
        before.delivered = 0 AND (before.failed >= $3 OR EXISTS (
          SELECT FROM delivery d WHERE d.message_id = t.message_id AND d.endpoint_id = t.endpoint_id AND d.state = 'dead')) AS recovered
      FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS t (message_id, endpoint_id, position)
      LEFT JOIN message m ON m.id = t.message_id
      LEFT JOIN endpoint e ON e.id = t.endpoint_id
      CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE a.status = $4) AS delivered, count(*) FILTER (WHERE a.status <> $4) AS failed
        FROM attempt a WHERE a.message_id = t.message_id AND a.id >= earliest_attempt(t.message_id) AND a.endpoint_id = t.endpoint_id
      ) before
      ORDER BY t.position`,
    values: [
      candidates.map(({ attempt }) => attempt.messageId),
      candidates.map(({ attempt }) => attempt.endpointId),
      FAILING_AFTER_ATTEMPTS,
      STATUS_SUCCESS,
    ],
  })
  return candidates.flatMap(({ type, attempt, subscription }, i) => {
    const context = rows[i]!
    if (type === 'message.attempt.recovered' && !context.recovered) return []
    const data = {
      appId: attempt.appId,
      appUid: subscription.appUid,
      endpointId: attempt.endpointId,
      endpointUid: context.endpoint_uid,
      msgId: attempt.messageId,
      msgEventId: context.event_id,
      lastAttempt: { id: attempt.id, responseStatusCode: attempt.responseCode, timestamp: new Date(attempt.createdAtMs).toISOString() },
    }
    return [toMessage(subscription.managementAppId, { type, key: `${attempt.id}.${type}`, data })]
  })
}
