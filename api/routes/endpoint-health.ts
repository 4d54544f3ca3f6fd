import { readHealth } from '../../storage/endpoint-windows.ts'
import { readEndpointState } from '../../storage/endpoint-state.ts'
import { changeConfiguration } from '../change.ts'
import type { ApiDependencies } from '../dependencies.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { endpointHealth, showHealth } from '../schemas/endpoint-health.ts'
import { applicationOf, endpointOf } from '../scope.ts'

async function healthOf(deps: ApiDependencies, endpointId: string): Promise<Reply> {
  const [window, state] = await Promise.all([readHealth(deps.pool, endpointId), readEndpointState(deps.pool, endpointId)])
  return { status: 200, json: showHealth(window, state, deps.config.endpointHealth.health) }
}

async function get({ deps, caller, path }: Call): Promise<Reply> {
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  return healthOf(deps, (await endpointOf(deps.pool, application, path['endpoint_id'])).id)
}

async function close(call: Call): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const endpointId = await changeConfiguration(call, async (client, changed, effect) => {
    const endpoint = await endpointOf(client, application, path['endpoint_id'])
    const rate = deps.config.endpointHealth.ramp.start
    const done = await effect({ kind: 'breaker-closed', endpointId: endpoint.id, rate })
    if (done) await changed({ operation: 'endpoint.breaker.force-closed', application, endpoint })
    return endpoint.id
  })
  return healthOf(deps, endpointId)
}

export const endpointHealthRoutes: RouteTable = {
  '/app/{app_id}/endpoint/{endpoint_id}/health': {
    get: {
      operationId: 'v1.endpoint.get-health',
      summary: 'Get Endpoint Health',
      tag: 'Endpoint',
      description: 'What all workers have seen of the endpoint in the last five minutes, some seconds old, and its circuit breaker.',
      replies: { 200: endpointHealth },
      access: 'application',
      across: { of: 'application' },
      handle: get,
    },
  },
  '/app/{app_id}/endpoint/{endpoint_id}/breaker/close': {
    post: {
      operationId: 'v1.endpoint.close-breaker',
      summary: 'Close Circuit Breaker',
      tag: 'Endpoint',
      description: 'What waits is released along the ramp now. No effect where the breaker is closed, or the endpoint recovers already.',
      replies: { 200: endpointHealth },
      access: 'application',
      across: { of: 'application' },
      handle: close,
    },
  },
}
