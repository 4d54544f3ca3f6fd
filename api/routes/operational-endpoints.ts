import type { z } from 'zod'
import { MANAGEMENT_ORGANISATION } from '../../domain/operational.ts'
import { findApplication } from '../../storage/applications.ts'
import { idsOf, orderedPage } from '../parameters.ts'
import { pageReply } from '../query.ts'
import { withBody, type Call, type Handler, type Reply, type RouteTable } from '../routing.ts'
import type { showEndpoint } from '../schemas/endpoint.ts'
import { endpointHeadersIn, endpointHeadersOut } from '../schemas/headers.ts'
import {
  operationalEndpointIn,
  operationalEndpointList,
  operationalEndpointOut,
  operationalEndpointUpdate,
  toEndpointIn,
  toEndpointUpdate,
} from '../schemas/operational-endpoint.ts'
import { secretOut, secretRotateIn } from '../schemas/secret.ts'
import { createApplication } from './applications.ts'
import { endpointHeaderHandlers } from './endpoint-headers.ts'
import { endpointSecretHandlers } from './endpoint-secrets.ts'
import { endpointHandlers } from './endpoints.ts'

/** The call as one to the caller's application of the management organisation, which owns the operational endpoints. */
function asManagement<Body extends z.ZodType>(call: Call, body: Call<Body>['body']): Call<Body> {
  const caller = { ...call.caller, orgId: MANAGEMENT_ORGANISATION }
  return { ...call, caller, path: { ...call.path, app_id: call.caller.orgId }, body }
}

/** An ordinary endpoint's handler, for operational endpoints. */
function operational<Body extends z.ZodType>(handle: Handler<Body>): Handler<Body> {
  return (call) => handle(asManagement<Body>(call, () => call.body()))
}

/** The application of the caller's organisation comes into being with its first operational endpoint. */
async function ensureApplication(call: Call): Promise<void> {
  const { deps, caller } = asManagement(call, () => call.body())
  const uid = call.caller.orgId
  if ((await findApplication(deps.configuration.reads, caller.orgId, uid)) !== undefined) return
  await createApplication({ deps, caller }, { uid, name: 'Operational webhooks', throttleRate: null, metadata: {}, residency: null })
}

type EndpointJson = ReturnType<typeof showEndpoint>

/** Shows of an endpoint what an operational one has. */
function pick(endpoint: EndpointJson) {
  return Object.fromEntries(Object.entries(endpoint).filter(([field]) => field in operationalEndpointOut.shape))
}

const shown = ({ status, json }: Reply): Reply => ({ status, json: pick(json as EndpointJson) })

async function list(call: Call): Promise<Reply> {
  const { deps, caller } = call
  const application = await findApplication(deps.configuration.reads, MANAGEMENT_ORGANISATION, caller.orgId)
  if (application === undefined) return { status: 200, json: pageReply({ rows: [], done: true }, String, String) }
  const { status, json } = await endpointHandlers.list(asManagement(call, () => call.body()))
  const page = json as { readonly data: readonly EndpointJson[] }
  return { status, json: { ...page, data: page.data.map(pick) } }
}

async function create(call: Call<typeof operationalEndpointIn>): Promise<Reply> {
  const input = toEndpointIn(await call.body())
  await ensureApplication(call)
  return shown(await endpointHandlers.create(asManagement(call, () => Promise.resolve(input))))
}

const get: Handler = async (call) => shown(await operational(endpointHandlers.get)(call))

async function put(call: Call<typeof operationalEndpointUpdate>): Promise<Reply> {
  const input = toEndpointUpdate(await call.body())
  await ensureApplication(call)
  return shown(await endpointHandlers.put(asManagement(call, () => Promise.resolve(input))))
}

const common = { tag: 'Operational Webhook', access: 'organisation' } as const

export const operationalEndpointRoutes: RouteTable = {
  '/operational-webhook/endpoint': {
    get: {
      ...common,
      operationId: 'v1.operational-webhook.endpoint.list',
      summary: 'List Operational Webhook Endpoints',
      query: orderedPage(idsOf('ep')),
      replies: { 200: operationalEndpointList },
      handle: list,
    },
    post: withBody({
      ...common,
      operationId: 'v1.operational-webhook.endpoint.create',
      summary: 'Create Operational Webhook Endpoint',
      description: 'It is sent events about the endpoints and deliveries of all applications of the organisation.',
      body: operationalEndpointIn,
      replies: { 201: operationalEndpointOut },
      handle: create,
    }),
  },
  '/operational-webhook/endpoint/{endpoint_id}': {
    get: {
      ...common,
      operationId: 'v1.operational-webhook.endpoint.get',
      summary: 'Get Operational Webhook Endpoint',
      replies: { 200: operationalEndpointOut },
      handle: get,
    },
    put: withBody({
      ...common,
      operationId: 'v1.operational-webhook.endpoint.update',
      summary: 'Update Operational Webhook Endpoint',
      body: operationalEndpointUpdate,
      replies: { 200: operationalEndpointOut, 201: operationalEndpointOut },
      handle: put,
    }),
    delete: {
      ...common,
      operationId: 'v1.operational-webhook.endpoint.delete',
      summary: 'Delete Operational Webhook Endpoint',
      replies: { 204: null },
      handle: operational(endpointHandlers.remove),
    },
  },
  '/operational-webhook/endpoint/{endpoint_id}/headers': {
    get: {
      ...common,
      operationId: 'v1.operational-webhook.endpoint.get-headers',
      summary: 'Get Operational Webhook Endpoint Headers',
      replies: { 200: endpointHeadersOut },
      handle: operational(endpointHeaderHandlers.get),
    },
    put: withBody({
      ...common,
      operationId: 'v1.operational-webhook.endpoint.update-headers',
      summary: 'Update Operational Webhook Endpoint Headers',
      body: endpointHeadersIn,
      replies: { 204: null },
      handle: operational(endpointHeaderHandlers.put),
    }),
  },
  '/operational-webhook/endpoint/{endpoint_id}/secret': {
    get: {
      ...common,
      operationId: 'v1.operational-webhook.endpoint.get-secret',
      summary: 'Get Operational Webhook Endpoint Secret',
      replies: { 200: secretOut },
      handle: operational(endpointSecretHandlers.get),
    },
  },
  '/operational-webhook/endpoint/{endpoint_id}/secret/rotate': {
    post: withBody({
      ...common,
      operationId: 'v1.operational-webhook.endpoint.rotate-secret',
      summary: 'Rotate Operational Webhook Endpoint Secret',
      body: secretRotateIn,
      replies: { 200: secretOut },
      handle: operational(endpointSecretHandlers.rotate),
    }),
  },
}
