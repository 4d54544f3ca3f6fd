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
import { flag, idsOf, orderedPage } from '../parameters.ts'
import { cursorOf, pageReply, readFlag, readPage } from '../query.ts'
import { withBody, type Call, type Reply, type RouteTable } from '../routing.ts'
import { applicationIn, applicationList, applicationOut, applicationPatch, showApplication } from '../schemas/application.ts'
import { applicationOf } from '../scope.ts'

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
  const page = readPage(query, { order: 'ascending', orderable: true, isCursor: cursorOf('app') })
  const rows = await listApplications(deps.pool, caller.orgId, page)
  return { status: 200, json: pageReply(rows, (row) => row.id, showApplication) }
}

async function create(call: Call<typeof applicationIn>): Promise<Reply> {
  const { deps, caller, query } = call
  const getIfExists = readFlag(query, 'get_if_exists', false)
  const fields = await call.body()
  const created = await createApplication(deps, caller.orgId, fields)
  if (created !== undefined) return { status: 201, json: showApplication(created) }
  if (!getIfExists) throw conflict()
  return { status: 200, json: showApplication(await applicationOf(deps.pool, caller, fields.uid ?? '')) }
}

async function get({ deps, caller, path }: Call): Promise<Reply> {
  return { status: 200, json: showApplication(await applicationOf(deps.pool, caller, path['app_id'])) }
}

async function put(call: Call<typeof applicationIn>): Promise<Reply> {
  const { deps, caller, path } = call
  const fields = await call.body()
  const updated = await changeConfiguration(deps, async (client, touched) => {
    const current = await findApplication(client, caller.orgId, path['app_id'] ?? '', { forUpdate: true })
    if (current === undefined) return undefined
    await touched(current.id)
    return updateApplication(client, current.id, fields)
  })
  if (updated !== undefined) return { status: 200, json: showApplication(updated) }
  const created = await createApplication(deps, caller.orgId, fields)
  if (created === undefined) throw conflict()
  return { status: 201, json: showApplication(created) }
}

async function patch(call: Call<typeof applicationPatch>): Promise<Reply> {
  const { deps, caller, path } = call
  const changes = await call.body()
  const set = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined)) as Partial<ApplicationFields>
  const updated = await changeConfiguration(deps, async (client, touched) => {
    const current = await applicationOf(client, caller, path['app_id'], { forUpdate: true })
    await touched(current.id)
    return updateApplication(client, current.id, { ...current, ...set })
  })
  return { status: 200, json: showApplication(updated) }
}

async function remove({ deps, caller, path }: Call): Promise<Reply> {
  await changeConfiguration(deps, async (client, touched) => {
    const current = await applicationOf(client, caller, path['app_id'], { forUpdate: true })
    await deleteApplication(client, current.id)
    await touched(current.id)
  })
  return { status: 204 }
}

export const applicationRoutes: RouteTable = {
  '/app': {
    get: {
      operationId: 'v1.application.list',
      summary: 'List Applications',
      tag: 'Application',
      query: orderedPage(idsOf('app')),
      replies: { 200: applicationList },
      access: 'organisation',
      handle: list,
    },
    post: withBody({
      operationId: 'v1.application.create',
      summary: 'Create Application',
      tag: 'Application',
      query: { get_if_exists: flag('Answer 200 with the application of this uid where there is one; the body is then ignored', false) },
      body: applicationIn,
      replies: { 200: applicationOut, 201: applicationOut },
      access: 'organisation',
      handle: create,
    }),
  },
  '/app/{app_id}': {
    get: {
      operationId: 'v1.application.get',
      summary: 'Get Application',
      tag: 'Application',
      replies: { 200: applicationOut },
      access: 'application',
      handle: get,
    },
    put: withBody({
      operationId: 'v1.application.update',
      summary: 'Update Application',
      tag: 'Application',
      description: 'Creates the application where there is none. Absent fields are reset.',
      body: applicationIn,
      replies: { 200: applicationOut, 201: applicationOut },
      access: 'organisation',
      handle: put,
    }),
    patch: withBody({
      operationId: 'patch_application',
      summary: 'Patch Application',
      tag: 'Application',
      description: 'Absent fields stay; null clears a field that may be empty.',
      body: applicationPatch,
      replies: { 200: applicationOut },
      access: 'organisation',
      handle: patch,
    }),
    delete: {
      operationId: 'v1.application.delete',
      summary: 'Delete Application',
      tag: 'Application',
      replies: { 204: null },
      access: 'organisation',
      handle: remove,
    },
  },
}
