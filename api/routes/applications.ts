import { newId } from '../../domain/ids.ts'
import {
  deleteApplication,
  findApplication,
  insertApplication,
  listApplications,
  updateApplication,
  type Application,
  type ApplicationFields,
} from '../../storage/applications.ts'
import type { Caller } from '../auth.ts'
import { changeConfiguration } from '../change.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { ApiError, ruleError } from '../errors.ts'
import { cursorOf, pageReply, readFlag, readPage } from '../query.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { APPLICATION_ALIASES, applicationIn, applicationPatch, showApplication } from '../schemas/application.ts'
import { parseBody, withAliases } from '../schemas/parse.ts'
import { applicationOf, requireOrganisation } from '../scope.ts'

type ChangeDependencies = Pick<ApiDependencies, 'pool' | 'configCache'>

function conflict(): ApiError {
  return new ApiError('conflict', 'An application with this uid already exists')
}

/** Creates an application. @returns undefined where its uid is taken */
async function createApplication(deps: ChangeDependencies, orgId: string, fields: ApplicationFields): Promise<Application | undefined> {
  return changeConfiguration(deps, async (client, touched) => {
    const application = await insertApplication(client, newId('app'), orgId, fields)
    if (application !== undefined) await touched(application.id)
    return application
  })
}

/**
 * The application named in the path, created from a body's `application` field where it does not exist yet.
 * @throws {ApiError} 404 where it neither exists nor is described
 * @throws {ValidationError} where the described one has another uid than the path
 */
export async function findOrCreateApplication(
  deps: ChangeDependencies,
  caller: Caller,
  pathName: string | undefined,
  described: ApplicationFields | null | undefined,
): Promise<Application> {
  if (described === null || described === undefined) return applicationOf(deps.pool, caller, pathName)
  const found = await findApplication(deps.pool, caller.orgId, pathName ?? '')
  if (found !== undefined) return found
  if (described.uid !== pathName) throw ruleError(['body', 'application', 'uid'], 'The uid must be the one in the path')
  const created = await createApplication(deps, caller.orgId, described)
  return created ?? applicationOf(deps.pool, caller, pathName)
}

async function list({ deps, caller, query }: Call): Promise<Reply> {
  requireOrganisation(caller)
  const page = readPage(query, { order: 'ascending', orderable: true, isCursor: cursorOf('app') })
  const rows = await listApplications(deps.pool, caller.orgId, page)
  return { status: 200, json: pageReply(rows, (row) => row.id, showApplication) }
}

async function create(call: Call): Promise<Reply> {
  const { deps, caller, query } = call
  requireOrganisation(caller)
  const getIfExists = readFlag(query, 'get_if_exists', false)
  const fields = parseBody(applicationIn, withAliases(await call.body(), APPLICATION_ALIASES))
  const created = await createApplication(deps, caller.orgId, fields)
  if (created !== undefined) return { status: 201, json: showApplication(created) }
  if (!getIfExists) throw conflict()
  return { status: 200, json: showApplication(await applicationOf(deps.pool, caller, fields.uid ?? '')) }
}

async function get({ deps, caller, path }: Call): Promise<Reply> {
  return { status: 200, json: showApplication(await applicationOf(deps.pool, caller, path['app'])) }
}

async function put(call: Call): Promise<Reply> {
  const { deps, caller, path } = call
  requireOrganisation(caller)
  const fields = parseBody(applicationIn, withAliases(await call.body(), APPLICATION_ALIASES))
  const updated = await changeConfiguration(deps, async (client, touched) => {
    const current = await findApplication(client, caller.orgId, path['app'] ?? '', { forUpdate: true })
    if (current === undefined) return undefined
    await touched(current.id)
    return updateApplication(client, current.id, fields)
  })
  if (updated !== undefined) return { status: 200, json: showApplication(updated) }
  const created = await createApplication(deps, caller.orgId, fields)
  if (created === undefined) throw conflict()
  return { status: 201, json: showApplication(created) }
}

async function patch(call: Call): Promise<Reply> {
  const { deps, caller, path } = call
  requireOrganisation(caller)
  const changes = parseBody(applicationPatch, withAliases(await call.body(), APPLICATION_ALIASES))
  const set = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined)) as Partial<ApplicationFields>
  const updated = await changeConfiguration(deps, async (client, touched) => {
    const current = await applicationOf(client, caller, path['app'], { forUpdate: true })
    await touched(current.id)
    return updateApplication(client, current.id, { ...current, ...set })
  })
  return { status: 200, json: showApplication(updated) }
}

async function remove({ deps, caller, path }: Call): Promise<Reply> {
  requireOrganisation(caller)
  await changeConfiguration(deps, async (client, touched) => {
    const current = await applicationOf(client, caller, path['app'], { forUpdate: true })
    await deleteApplication(client, current.id)
    await touched(current.id)
  })
  return { status: 204 }
}

export const applicationRoutes: RouteTable = {
  '/app': { get: list, post: create },
  '/app/:app': { get, put, patch, delete: remove },
}
