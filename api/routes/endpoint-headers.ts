import type { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'
import { readHeadersCipher, writeHeadersCipher } from '../../storage/endpoints.ts'
import type { Queryable } from '../../storage/pool.ts'
import { changeConfiguration } from '../change.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { ruleError } from '../errors.ts'
import { withBody, type Call, type Reply, type RouteTable } from '../routing.ts'
import { endpointHeadersIn, endpointHeadersOut, endpointHeadersPatch, mergeHeaders, showHeaders, type Headers } from '../schemas/headers.ts'
import { applicationOf, endpointOf } from '../scope.ts'

async function readHeaders(deps: ApiDependencies, db: Queryable, endpointId: string): Promise<Headers> {
  const stored = await readHeadersCipher(db, endpointId)
  return stored === null ? {} : (JSON.parse(deps.cipher.decrypt(stored)) as Headers)
}

// The application is found before the body is read: whoever may not see it is told nothing about the body.
async function change<Body extends typeof endpointHeadersIn | typeof endpointHeadersPatch>(
  { deps, caller, path, body }: Call<Body>,
  next: (current: Headers, input: z.output<Body>['headers']) => Headers,
): Promise<Reply> {
  const application = await applicationOf(deps.configuration.reads, caller, path['app_id'])
  const input = await body()
  await changeConfiguration({ deps, caller }, async (client, changed) => {
    const endpoint = await endpointOf(client, application, path['endpoint_id'], { forUpdate: true })
    const headers = next(await readHeaders(deps, client, endpoint.id), input.headers)
    const count = Object.keys(headers).length
    if (count > LIMITS.headersPerEndpoint) throw ruleError(['body', 'headers'], `Takes at most ${LIMITS.headersPerEndpoint} headers`)
    await writeHeadersCipher(client, endpoint.id, count === 0 ? null : deps.cipher.encrypt(JSON.stringify(headers)))
    await changed({ operation: 'endpoint.updated', application, endpoint, fields: ['headers'] })
  })
  return { status: 204 }
}

async function get({ deps, caller, path }: Call): Promise<Reply> {
  const application = await applicationOf(deps.configuration.reads, caller, path['app_id'])
  const endpoint = await endpointOf(deps.configuration.reads, application, path['endpoint_id'])
  return { status: 200, json: showHeaders(await readHeaders(deps, deps.configuration.reads, endpoint.id)) }
}

async function put(call: Call<typeof endpointHeadersIn>): Promise<Reply> {
  return change(call, (_current, headers) => mergeHeaders({}, headers))
}

async function patch(call: Call<typeof endpointHeadersPatch>): Promise<Reply> {
  return change(call, mergeHeaders)
}

export const endpointHeaderHandlers = { get, put, patch }

export const endpointHeaderRoutes: RouteTable = {
  '/app/{app_id}/endpoint/{endpoint_id}/headers': {
    get: {
      operationId: 'v1.endpoint.get-headers',
      summary: 'Get Endpoint Headers',
      tag: 'Endpoint',
      description: 'Of sensitive headers the name alone is shown.',
      replies: { 200: endpointHeadersOut },
      access: 'application',
      handle: get,
    },
    put: withBody({
      operationId: 'v1.endpoint.update-headers',
      summary: 'Update Endpoint Headers',
      tag: 'Endpoint',
      body: endpointHeadersIn,
      replies: { 204: null },
      access: 'application',
      handle: put,
    }),
    patch: withBody({
      operationId: 'v1.endpoint.patch-headers',
      summary: 'Patch Endpoint Headers',
      tag: 'Endpoint',
      description: 'Null removes a header.',
      body: endpointHeadersPatch,
      replies: { 204: null },
      access: 'application',
      handle: patch,
    }),
  },
}
