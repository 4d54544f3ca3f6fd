import { LIMITS } from '../../domain/limits.ts'
import { readHeadersCipher, writeHeadersCipher } from '../../storage/endpoints.ts'
import type { Queryable } from '../../storage/pool.ts'
import { changeConfiguration } from '../change.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { ruleError } from '../errors.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { endpointHeadersIn, endpointHeadersPatch, mergeHeaders, showHeaders, type Headers } from '../schemas/headers.ts'
import { parseBody } from '../schemas/parse.ts'
import { applicationOf, endpointOf } from '../scope.ts'

async function readHeaders(deps: ApiDependencies, db: Queryable, endpointId: string): Promise<Headers> {
  const stored = await readHeadersCipher(db, endpointId)
  return stored === null ? {} : (JSON.parse(deps.cipher.decrypt(stored)) as Headers)
}

async function change(call: Call, next: (current: Headers) => Headers): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.pool, caller, path['app'])
  await changeConfiguration(deps, async (client, touched) => {
    const endpoint = await endpointOf(client, application, path['endpoint'], { forUpdate: true })
    const headers = next(await readHeaders(deps, client, endpoint.id))
    const count = Object.keys(headers).length
    if (count > LIMITS.headersPerEndpoint) throw ruleError(['body', 'headers'], `Takes at most ${LIMITS.headersPerEndpoint} headers`)
    await writeHeadersCipher(client, endpoint.id, count === 0 ? null : deps.cipher.encrypt(JSON.stringify(headers)))
    await touched(application.id)
  })
  return { status: 204 }
}

async function get({ deps, caller, path }: Call): Promise<Reply> {
  const application = await applicationOf(deps.pool, caller, path['app'])
  const endpoint = await endpointOf(deps.pool, application, path['endpoint'])
  return { status: 200, json: showHeaders(await readHeaders(deps, deps.pool, endpoint.id)) }
}

async function put(call: Call): Promise<Reply> {
  const { headers } = parseBody(endpointHeadersIn, await call.body())
  return change(call, () => mergeHeaders({}, headers))
}

async function patch(call: Call): Promise<Reply> {
  const { headers } = parseBody(endpointHeadersPatch, await call.body())
  return change(call, (current) => mergeHeaders(current, headers))
}

export const endpointHeaderRoutes: RouteTable = {
  '/app/:app/endpoint/:endpoint/headers': { get, put, patch },
}
