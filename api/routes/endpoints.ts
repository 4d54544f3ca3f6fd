import type { z } from 'zod'
import type { OAuth2Settings } from '../../domain/endpoint-access.ts'
import { newId } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import { MANAGEMENT_ORGANISATION } from '../../domain/operational.ts'
import { isSameWay } from '../../domain/ordering.ts'
import { NEAREST_REGION } from '../../domain/regions.ts'
import { isWildcard } from '../../domain/routing.ts'
import type { Application } from '../../storage/applications.ts'
import { insertSecret } from '../../storage/endpoint-secrets.ts'
import {
  countEndpoints,
  deleteEndpoint,
  findEndpoint,
  insertEndpoint,
  listEndpoints,
  updateEndpoint,
  type Endpoint,
  type EndpointFields,
} from '../../storage/endpoints.ts'
import { missingEventTypes } from '../../storage/event-types.ts'
import type { Queryable } from '../../storage/pool.ts'
import { changeConfiguration, changedFields, type Changed, type Effect } from '../change.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { ApiError, ruleError } from '../errors.ts'
import { idsOf, orderedPage } from '../parameters.ts'
import { placeEndpoint } from '../placement.ts'
import { cursorOf, pageReply, readPage } from '../query.ts'
import { withBody, type Call, type Reply, type RouteTable } from '../routing.ts'
import {
  endpointFields,
  endpointIn,
  endpointList,
  endpointOut,
  endpointPatch,
  endpointUpdate,
  patchedEndpoint,
  showEndpoint,
} from '../schemas/endpoint.ts'
import type { Headers } from '../schemas/headers.ts'
import { newSecret } from '../schemas/secret.ts'
import { applicationOf, endpointOf, nameOf } from '../scope.ts'

/** @throws {ValidationError} where an event type does not exist or is archived */
async function requireEventTypes(db: Queryable, orgId: string, names: readonly string[] | null | undefined): Promise<void> {
  if (names === null || names === undefined) return
  // Operational endpoints have been given their event types by their schema.
  if (orgId === MANAGEMENT_ORGANISATION) return
  const missing = await missingEventTypes(
    db,
    orgId,
    names.filter((name) => !isWildcard(name)),
  )
  if (missing.length > 0) throw ruleError(['body', 'event_types'], `The following event types don't exist: ${missing.join(', ')}`)
}

interface Urls {
  readonly url?: string | undefined
  readonly oauth2?: Pick<OAuth2Settings, 'tokenUrl'> | null | undefined
}

/** @throws {ValidationError} where no request to a URL would be allowed, whatever its name resolves to */
function requireAllowedUrls(deps: ApiDependencies, { url, oauth2 }: Urls): void {
  const refusal = url === undefined ? undefined : deps.guard.check(url)
  if (refusal !== undefined) throw ruleError(['body', 'url'], `Endpoint URLs must be allowed: ${refusal}`)
  const tokenRefusal = oauth2 === null || oauth2 === undefined ? undefined : deps.guard.check(oauth2.tokenUrl)
  if (tokenRefusal !== undefined) throw ruleError(['body', 'oauth2', 'token_url'], `Token URLs must be allowed: ${tokenRefusal}`)
}

/** @throws {ValidationError} where certificates are given for a URL without TLS */
function requireTls({ url, mtls, caCertificate }: EndpointFields): void {
  if ((mtls === null && caCertificate === null) || new URL(url).protocol === 'https:') return
  throw ruleError(['body', 'url'], 'Endpoint URLs must be https with mtls or caCertificate')
}

/** @throws {ValidationError} where batches would have to be of a format that carries one event in a request */
function requireBatchable({ batching, format }: EndpointFields): void {
  if (batching === null || format !== 'cloudevents-binary') return
  throw ruleError(
    ['body', 'format'],
    'Batches are of plain events or of cloudevents-structured: cloudevents-binary carries one event in a request',
  )
}

interface NewEndpoint {
  readonly fields: EndpointFields
  readonly secret: string
  readonly headers: Headers
}

async function createEndpoint(
  { deps, caller }: Pick<Call, 'deps' | 'caller'>,
  application: Application,
  input: NewEndpoint,
): Promise<Endpoint> {
  return changeConfiguration({ deps, caller }, async (client, changed) => {
    if ((await countEndpoints(client, application.id)) >= LIMITS.endpointsPerApplication) {
      throw new ApiError('limit_reached', `An application has at most ${LIMITS.endpointsPerApplication} endpoints`)
    }
    const headers = Object.keys(input.headers).length === 0 ? null : deps.cipher.encrypt(JSON.stringify(input.headers))
    const endpoint = await insertEndpoint(client, newId('ep'), application.id, input.fields, headers)
    await insertSecret(client, endpoint.id, deps.cipher.encrypt(input.secret))
    const fields = [...Object.keys(input.fields), 'secret', ...(headers === null ? [] : ['headers'])].sort()
    await changed({ operation: 'endpoint.created', application, endpoint, fields })
    return endpoint
  })
}

/** Tells of an update, and of what it does to `disabled` by an event of its own. */
async function tellUpdate(changed: Changed, application: Application, before: Endpoint, after: Endpoint): Promise<void> {
  await changed({ operation: 'endpoint.updated', application, endpoint: after, fields: changedFields(before, after) })
  if (before.disabled === after.disabled) return
  const operation = after.disabled ? 'endpoint.disabled' : 'endpoint.enabled'
  await changed({ operation, application, endpoint: after, fields: ['disabled'] })
}

async function update(
  { deps, application, changed, effect }: { deps: ApiDependencies; application: Application; changed: Changed; effect: Effect },
  client: Queryable,
  before: Endpoint,
  fields: EndpointFields,
): Promise<Endpoint> {
  const after = await updateEndpoint(client, before.id, fields)
  const endpointId = after.id
  if (before.url !== after.url) await effect({ kind: 'endpoint-anew', endpointId, rate: deps.config.endpointHealth.ramp.start })
  await tellUpdate(changed, application, before, after)
  // What waits goes on in the way that the endpoint has now, though its mailbox sleeps until the time that it had in the other.
  if (!isSameWay(before, after)) await effect({ kind: 'queue-due', endpointId })
  return after
}

async function list({ deps, caller, path, query }: Call): Promise<Reply> {
  const page = readPage(query, { order: 'descending', orderable: true, isCursor: cursorOf('ep') })
  const application = await applicationOf(deps.configuration.reads, caller, path['app_id'])
  const rows = await listEndpoints(deps.configuration.reads, application.id, page)
  return { status: 200, json: pageReply(rows, (row) => row.id, showEndpoint) }
}

async function create(call: Call<typeof endpointIn>): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.configuration.reads, caller, path['app_id'])
  const { secret, headers, ...input } = await call.body()
  requireAllowedUrls(deps, input)
  await requireEventTypes(deps.configuration.reads, caller.orgId, input.eventTypes)
  const region = await placeEndpoint(deps, application, input.region, input.url)
  const fields = { ...endpointFields(input, deps.cipher), region }
  requireTls(fields)
  requireBatchable(fields)
  const endpoint = await createEndpoint(call, application, { fields, secret: secret ?? newSecret(), headers: headers ?? {} })
  return { status: 201, json: showEndpoint(endpoint) }
}

async function get({ deps, caller, path }: Call): Promise<Reply> {
  const application = await applicationOf(deps.configuration.reads, caller, path['app_id'])
  return { status: 200, json: showEndpoint(await endpointOf(deps.configuration.reads, application, path['endpoint_id'])) }
}

async function put(call: Call<typeof endpointUpdate>): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.configuration.reads, caller, path['app_id'])
  const input = await call.body()
  requireAllowedUrls(deps, input)
  await requireEventTypes(deps.configuration.reads, caller.orgId, input.eventTypes)
  const region = await placeEndpoint(deps, application, input.region, input.url)
  const fields = { ...endpointFields(input, deps.cipher), region }
  requireTls(fields)
  requireBatchable(fields)
  const updated = await changeConfiguration(call, async (client, changed, effect) => {
    const before = await findEndpoint(client, application.id, nameOf(path['endpoint_id']), { forUpdate: true })
    if (before === undefined) return undefined
    return update({ deps, application, changed, effect }, client, before, fields)
  })
  if (updated !== undefined) return { status: 200, json: showEndpoint(updated) }
  return { status: 201, json: showEndpoint(await createEndpoint(call, application, { fields, secret: newSecret(), headers: {} })) }
}

/** The region that a patch gives the endpoint: undefined where it says nothing of it. */
async function patchedRegion(
  { deps, path }: Pick<Call, 'deps' | 'path'>,
  application: Application,
  { region, url }: z.output<typeof endpointPatch>,
): Promise<string | null | undefined> {
  if (region === undefined) return undefined
  const measured =
    url ?? (region === NEAREST_REGION ? (await endpointOf(deps.configuration.reads, application, path['endpoint_id'])).url : '')
  return placeEndpoint(deps, application, region, measured)
}

async function patch(call: Call<typeof endpointPatch>): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.configuration.reads, caller, path['app_id'])
  const given = await call.body()
  requireAllowedUrls(deps, given)
  const changes = { ...given, region: await patchedRegion(call, application, given) }
  await requireEventTypes(deps.configuration.reads, caller.orgId, changes.eventTypes)
  const updated = await changeConfiguration(call, async (client, changed, effect) => {
    const before = await endpointOf(client, application, path['endpoint_id'], { forUpdate: true })
    const fields = patchedEndpoint(before, changes, deps.cipher)
    requireTls(fields)
    requireBatchable(fields)
    return update({ deps, application, changed, effect }, client, before, fields)
  })
  return { status: 200, json: showEndpoint(updated) }
}

async function remove(call: Call): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.configuration.reads, caller, path['app_id'])
  await changeConfiguration(call, async (client, changed) => {
    const endpoint = await endpointOf(client, application, path['endpoint_id'], { forUpdate: true })
    await deleteEndpoint(client, endpoint.id)
    await changed({ operation: 'endpoint.deleted', application, endpoint })
  })
  return { status: 204 }
}

/** Operational endpoints are served by these, too. */
export const endpointHandlers = { list, create, get, put, remove }

export const endpointRoutes: RouteTable = {
  '/app/{app_id}/endpoint': {
    get: {
      operationId: 'v1.endpoint.list',
      summary: 'List Endpoints',
      tag: 'Endpoint',
      query: orderedPage(idsOf('ep')),
      replies: { 200: endpointList },
      access: 'application',
      handle: list,
    },
    post: withBody({
      operationId: 'v1.endpoint.create',
      summary: 'Create Endpoint',
      tag: 'Endpoint',
      description: 'Event types that are named must exist and be unarchived.',
      body: endpointIn,
      replies: { 201: endpointOut },
      access: 'application',
      handle: create,
    }),
  },
  '/app/{app_id}/endpoint/{endpoint_id}': {
    get: {
      operationId: 'v1.endpoint.get',
      summary: 'Get Endpoint',
      tag: 'Endpoint',
      replies: { 200: endpointOut },
      access: 'application',
      handle: get,
    },
    put: withBody({
      operationId: 'v1.endpoint.update',
      summary: 'Update Endpoint',
      tag: 'Endpoint',
      description: 'Creates the endpoint where there is none. Absent fields are reset; secret and headers are kept.',
      body: endpointUpdate,
      replies: { 200: endpointOut, 201: endpointOut },
      access: 'application',
      handle: put,
    }),
    patch: withBody({
      operationId: 'patch_endpoint',
      summary: 'Patch Endpoint',
      tag: 'Endpoint',
      description: 'Absent fields stay; null clears a field that may be empty.',
      body: endpointPatch,
      replies: { 200: endpointOut },
      access: 'application',
      handle: patch,
    }),
    delete: {
      operationId: 'v1.endpoint.delete',
      summary: 'Delete Endpoint',
      tag: 'Endpoint',
      replies: { 204: null },
      access: 'application',
      handle: remove,
    },
  },
}
