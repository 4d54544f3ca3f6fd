import { LIMITS } from '../../domain/limits.ts'
import type { ReplayRequest, ReplayStatus } from '../../domain/message.ts'
import { STATUS_FAIL, STATUS_PENDING, STATUS_SENDING, STATUS_SUCCESS } from '../../domain/outcome.ts'
import type { TaskName } from '../../storage/background-tasks.ts'
import { ruleError } from '../errors.ts'
import { withBody, type Call, type Reply, type RouteTable } from '../routing.ts'
import { bulkReplayIn, recoverIn, recoverOut, replayIn, replayOut, showStarted } from '../schemas/background-task.ts'
import { applicationOf, endpointOf } from '../scope.ts'
import { takeFirst } from '../shards.ts'
import { beginTask } from '../tasks.ts'

/** Which messages, besides those of the endpoint and the time. */
type Choice = Omit<ReplayRequest, 'applicationId' | 'endpointId' | 'since' | 'until'>

interface Range {
  readonly since: number
  readonly until?: number | null | undefined
}

/** @throws {ValidationError} for a range that ends before it begins */
async function replay(call: Pick<Call, 'deps' | 'caller' | 'path'>, task: TaskName, range: Range, choice: Choice): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const endpoint = await endpointOf(deps.pool, application, path['endpoint_id'])
  const untilMs = range.until ?? Date.now()
  if (untilMs < range.since) throw ruleError(['body', '__all__'], 'until must be after since')
  const input: ReplayRequest = {
    ...choice,
    applicationId: application.id,
    endpointId: endpoint.id,
    since: new Date(range.since).toISOString(),
    until: new Date(untilMs).toISOString(),
  }
  const begun = await beginTask(deps, { orgId: caller.orgId, appId: application.id, task, input, data: { deliveries: 0 } })
  return { status: 202, json: showStarted(begun) }
}

async function recover(call: Call<typeof recoverIn>): Promise<Reply> {
  const input = await call.body()
  if (input.since < Date.now() - LIMITS.recoverMaxMs) throw ruleError(['body', '__all__'], 'Cannot recover messages more than 14 days old.')
  return replay(call, 'endpoint.recover', input, { status: 'failed', retried: false })
}

async function replayMissing(call: Call<typeof replayIn>): Promise<Reply> {
  return replay(call, 'endpoint.replay', await call.body(), { status: 'missing' })
}

const CHOSEN_BY_STATUS = {
  [STATUS_SUCCESS]: 'delivered',
  [STATUS_PENDING]: 'waiting',
  [STATUS_FAIL]: 'failed',
  [STATUS_SENDING]: 'waiting',
} as const satisfies Record<number, ReplayStatus>

async function bulkReplay(call: Call<typeof bulkReplayIn>): Promise<Reply> {
  const { eventTypes, channel, status, statusCodeClass, ...range } = await call.body()
  return replay(call, 'endpoint.bulk-replay', range, {
    status: typeof status === 'number' ? CHOSEN_BY_STATUS[status] : 'attempted',
    ...(eventTypes ? { eventTypes } : {}),
    ...(channel ? { channel } : {}),
    ...(typeof statusCodeClass === 'number' ? { statusCodeClass } : {}),
  })
}

export const replayRoutes: RouteTable = {
  '/app/{app_id}/endpoint/{endpoint_id}/recover': {
    post: withBody({
      operationId: 'v1.endpoint.recover',
      summary: 'Recover Failed Webhooks',
      tag: 'Endpoint',
      description: 'Sends again what failed at this endpoint, once each, in the background. Reaches 14 days back.',
      body: recoverIn,
      replies: { 202: recoverOut },
      access: 'application',
      across: { all: takeFirst },
      handle: recover,
    }),
  },
  '/app/{app_id}/endpoint/{endpoint_id}/replay-missing': {
    post: withBody({
      operationId: 'v1.endpoint.replay-missing',
      summary: 'Replay Missing Webhooks',
      tag: 'Endpoint',
      description: 'Sends what this endpoint is subscribed to and was never sent, in the background, with its whole retry schedule.',
      body: replayIn,
      replies: { 202: replayOut },
      access: 'application',
      across: { all: takeFirst },
      handle: replayMissing,
    }),
  },
  '/app/{app_id}/endpoint/{endpoint_id}/bulk-replay': {
    post: withBody({
      operationId: 'v1.endpoint.bulk-replay',
      summary: 'Bulk Replay',
      tag: 'Endpoint',
      description: 'Sends again what this endpoint was sent, delivered or not, in the background, with its whole retry schedule.',
      body: bulkReplayIn,
      replies: { 202: replayOut },
      access: 'application',
      across: { all: takeFirst },
      handle: bulkReplay,
    }),
  },
}
