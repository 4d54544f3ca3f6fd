import { newId, lowestIdAt } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { NewMessage } from '../../domain/message.ts'
import { subscribes } from '../../domain/routing.ts'
import { findApplicationIds } from '../../storage/applications.ts'
import { takes } from '../../domain/shards.ts'
import { insertBroadcast, type BroadcastInput } from '../../storage/broadcast.ts'
import { cancelMessages, type CancelRequest } from '../../storage/cancelling.ts'
import { writing } from '../../storage/history/reads.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { ApiError, notFound, ruleError } from '../errors.ts'
import { flag } from '../parameters.ts'
import { readFlag } from '../query.ts'
import { withBody, type Call, type Reply, type RouteTable } from '../routing.ts'
import { broadcastOut, showStarted } from '../schemas/background-task.ts'
import { batchIn, batchOut, broadcastIn, cancelIn, cancelOut, precheckIn, precheckOut, showCancelled } from '../schemas/publishing.ts'
import { applicationOf, cachedApplicationOf } from '../scope.ts'
import { takeFirst, type Merge } from '../shards.ts'
import { findOrCreateApplication } from './applications.ts'
import { acceptedJson, newMessageOf, traceparentOf } from './publish.ts'

const DAY_MS = 86_400_000

function takenAt(position: number): ApiError {
  return new ApiError('conflict', `messages[${position}]: a message with this eventId already exists; none of the messages was accepted`)
}

/** @returns the position of the first message whose `eventId` an earlier one of the same request has */
function firstRepeated(messages: readonly { readonly eventId: string | null | undefined }[]): number | undefined {
  const seen = new Set<string>()
  for (const [i, { eventId }] of messages.entries()) {
    if (eventId === null || eventId === undefined) continue
    if (seen.has(eventId)) return i
    seen.add(eventId)
  }
  return undefined
}

async function batch(call: Call<typeof batchIn>): Promise<Reply> {
  const { deps, caller, path, query } = call
  const withContent = readFlag(query, 'with_content', true)
  const { messages: inputs } = await call.body()
  const known = await cachedApplicationOf(deps, caller, path['app_id'])
  const described = inputs.find((input) => input.application)?.application
  if (known === undefined && !described) throw notFound()
  const repeated = firstRepeated(inputs)
  if (repeated !== undefined) throw takenAt(repeated)
  const { id: appId } = known ?? (await findOrCreateApplication(call, path['app_id'], described))
  const traceparent = traceparentOf(deps, call.request)
  const messages: NewMessage[] = inputs.map((input) => newMessageOf(input, appId, { traceparent }))
  const [refused] = await deps.intake.acceptAll(messages)
  if (refused !== undefined) throw takenAt(refused)
  const data = messages.map((message, i) => acceptedJson(message, inputs[i]!, withContent))
  return { status: 202, text: `{"data":[${data.join(',')}]}` }
}

// Filters look at payloads, of which there is none yet: an endpoint that has one counts as active.
async function precheck(call: Call<typeof precheckIn>): Promise<Reply> {
  const { deps, caller, path } = call
  const { eventType, channels } = await call.body()
  const application = await cachedApplicationOf(deps, caller, path['app_id'])
  if (application === undefined) throw notFound()
  const { list } = await deps.configCache.endpoints(application.id)
  return { status: 200, json: { active: list.some((endpoint) => subscribes(endpoint, { eventType, channels: channels ?? null })) } }
}

async function cancel(call: Call<typeof cancelIn>): Promise<Reply> {
  const { deps, caller, path } = call
  const { msgIds, eventTypes, channel, before, after } = await call.body()
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const bound = (atMs: number | null | undefined) => (atMs === null || atMs === undefined ? undefined : lowestIdAt('msg', atMs))
  const request: CancelRequest = msgIds
    ? { messageIds: msgIds.filter((id) => !id.includes('\0')) }
    : { eventTypes: eventTypes ?? undefined, channel: channel ?? undefined, beforeId: bound(before), afterId: bound(after) }
  const limit = LIMITS.cancelMaxPerRequest
  const cancelled = await writing(deps.history, application.id, () => cancelMessages(deps.pool, application.id, request, limit))
  const found = new Set(cancelled.map((one) => one.messageId))
  const absent = [...new Set(msgIds ?? [])].filter((id) => !found.has(id))
  const data = [
    ...cancelled.map(showCancelled),
    ...absent.map((msgId) => ({ msgId, result: 'not_found', scheduled: false, deliveries: 0 })),
  ]
  return { status: 200, json: { data, done: 'messageIds' in request || cancelled.length < limit } }
}

interface Cancelled {
  readonly data: readonly { readonly msgId: string; readonly result: string }[]
  readonly done: boolean
}

/** A message that one of the databases has is not missing because others do not have it. */
const mergeCancelled: Merge = (replies) => {
  const all = replies.map(({ json }) => json as Cancelled)
  const data = all.flatMap((one) => one.data)
  const found = data.filter(({ result }) => result !== 'not_found')
  const known = new Set(found.map(({ msgId }) => msgId))
  const absent = all[0]!.data.filter(({ msgId, result }) => result === 'not_found' && !known.has(msgId))
  return { status: 200, json: { data: [...found, ...absent], done: all.every(({ done }) => done) } }
}

async function broadcast(call: Call<typeof broadcastIn>): Promise<Reply> {
  const { deps, caller } = call
  const { message: input, applications, metadata } = await call.body()
  if (input.deliverAt) throw ruleError(['body', 'message', 'deliver_at'], 'A broadcast is sent at once')
  const { payload, eventType, eventId, channels } = newMessageOf(input, '')
  const request = {
    id: deps.taskId ?? newId('qtask'),
    task: 'message.broadcast' as const,
    orgId: caller.orgId,
    input: {
      orgId: caller.orgId,
      applicationIds: applications ? await idsOfAll(call, applications) : null,
      metadata: metadata ?? {},
      eventType,
      eventId,
      channels,
      ...(deps.shard === undefined ? {} : { placed: placedNow(deps.shard) }),
      retentionMs: (input.payloadRetentionPeriod ?? LIMITS.payloadRetentionMaxDays) * DAY_MS,
    },
  }
  const task = await insertBroadcast(deps.pool, request, payload)
  await deps.launchTask(request)
  return { status: 202, json: showStarted(task) }
}

/** Each database sends to the applications whose messages it takes when the broadcast is begun. */
function placedNow({ number, all }: NonNullable<ApiDependencies['shard']>): BroadcastInput['placed'] {
  const nowMs = Date.now()
  return { shard: number, among: all.filter((shard) => takes(shard, nowMs)).map((shard) => shard.number) }
}

/** @throws {ValidationError} where one of the applications does not exist */
async function idsOfAll({ deps, caller }: Call, names: readonly string[]): Promise<string[]> {
  const clean = names.filter((name) => !name.includes('\0'))
  const known = await findApplicationIds(deps.pool, caller.orgId, clean)
  const missing = names.findIndex((name) => !known.has(name))
  if (missing >= 0) throw ruleError(['body', 'applications', `[${missing}]`], 'There is no such application')
  return [...new Set(known.values())]
}

export const publishingRoutes: RouteTable = {
  '/app/{app_id}/msg/batch': {
    post: withBody({
      operationId: 'v1.message.create-batch',
      summary: 'Create Messages',
      tag: 'Message',
      description: 'Accepts all messages or none: 409 and 422 name the first that is in the way by its position.',
      query: { with_content: flag('When `true` message payloads are included in the response', true) },
      body: batchIn,
      replies: { 202: batchOut },
      access: 'organisation',
      handle: batch,
    }),
  },
  '/app/{app_id}/msg/precheck/active': {
    post: withBody({
      operationId: 'v1.message.precheck',
      summary: 'Precheck Message',
      tag: 'Message',
      description: 'Whether any enabled endpoint would get such a message; payload filters are not asked.',
      body: precheckIn,
      replies: { 200: precheckOut },
      access: 'organisation',
      handle: precheck,
    }),
  },
  '/app/{app_id}/msg/cancel': {
    post: withBody({
      operationId: 'v1.message.cancel',
      summary: 'Cancel Messages',
      tag: 'Message',
      description:
        'What waits for its `deliverAt` is not sent, what waits for a retry is not retried. Filters choose among what waits, the oldest first.',
      body: cancelIn,
      replies: { 200: cancelOut },
      access: 'organisation',
      across: { all: mergeCancelled },
      handle: cancel,
    }),
  },
  '/msg/broadcast': {
    post: withBody({
      operationId: 'v1.message.broadcast',
      summary: 'Broadcast Message',
      tag: 'Message',
      description: 'Publishes one message to many applications in a background task, once to each.',
      body: broadcastIn,
      replies: { 202: broadcastOut },
      access: 'organisation',
      across: { all: takeFirst },
      handle: broadcast,
    }),
  },
}
