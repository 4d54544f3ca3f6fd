import { readQueueState, skipQueued } from '../../storage/mailbox-queue.ts'
import { changeMessageData } from '../change.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { queueOut, showQueue, skippedOut } from '../schemas/endpoint-queue.ts'
import { applicationOf, endpointOf } from '../scope.ts'
import { mergeSums, type Merge } from '../shards.ts'

async function get({ deps, caller, path }: Call): Promise<Reply> {
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const endpoint = await endpointOf(deps.pool, application, path['endpoint_id'])
  return { status: 200, json: showQueue(await readQueueState(deps.pool, endpoint.id), Date.now()) }
}

/** Skips what waits, and has the mailbox look at what is left. */
async function skipSome(call: Call, which: 'head' | 'all'): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const { skipped, endpointId } = await changeMessageData(call, async (client, changed) => {
    const endpoint = await endpointOf(client, application, path['endpoint_id'])
    const count = await skipQueued(client, endpoint.id, which)
    if (count > 0)
      await changed({ operation: which === 'head' ? 'endpoint.queue.skipped' : 'endpoint.queue.drained', application, endpoint })
    return { skipped: count, endpointId: endpoint.id }
  })
  if (skipped > 0) deps.wakeMailbox({ endpointId, wakeAtMs: Date.now() })
  return { status: 200, json: { skipped } }
}

/** What was accepted first goes first. */
const mergeQueues: Merge = (replies) => {
  const queues = replies.map(({ json }) => json as ReturnType<typeof showQueue>)
  const heads = queues.flatMap(({ head }) => head ?? [])
  const oldest = heads.reduce<(typeof heads)[number] | null>((old, head) => (old !== null && old.ageMs >= head.ageMs ? old : head), null)
  return { status: 200, json: { depth: queues.reduce((sum, { depth }) => sum + depth, 0), head: oldest } }
}

const SKIPPED = 'They count as skipped, not as delivered; a replay can send them again. A request that is under way goes on.'

export const endpointQueueRoutes: RouteTable = {
  '/app/{app_id}/endpoint/{endpoint_id}/queue': {
    get: {
      operationId: 'v1.endpoint.get-queue',
      summary: 'Get Endpoint Queue',
      tag: 'Endpoint',
      description: 'How many deliveries wait for the endpoint, and which of them goes next.',
      replies: { 200: queueOut },
      access: 'application',
      across: { all: mergeQueues },
      handle: get,
    },
  },
  '/app/{app_id}/endpoint/{endpoint_id}/queue/skip': {
    post: {
      operationId: 'v1.endpoint.skip-queue-head',
      summary: 'Skip Endpoint Queue Head',
      tag: 'Endpoint',
      description: `Skips the delivery that goes next, with those that share its request. ${SKIPPED}`,
      replies: { 200: skippedOut },
      access: 'application',
      across: { first: ({ json }) => (json as { readonly skipped: number }).skipped > 0 },
      handle: (call) => skipSome(call, 'head'),
    },
  },
  '/app/{app_id}/endpoint/{endpoint_id}/queue/drain': {
    post: {
      operationId: 'v1.endpoint.drain-queue',
      summary: 'Drain Endpoint Queue',
      tag: 'Endpoint',
      description: `Skips all deliveries that wait for the endpoint. ${SKIPPED}`,
      replies: { 200: skippedOut },
      access: 'application',
      across: { all: mergeSums },
      handle: (call) => skipSome(call, 'all'),
    },
  },
}
