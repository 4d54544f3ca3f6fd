import type { z } from 'zod'
import { newId } from '../../domain/ids.ts'
import {
  deleteApplication,
  findApplication,
  insertApplication,
  listApplications,
  updateApplication,
  type Application,
  type ApplicationFields,
  type NewApplication,
} from '../../storage/applications.ts'
import type { Configuration } from '../../storage/configuration.ts'
import type { Queryable } from '../../storage/pool.ts'
import { changeConfiguration, changedFields, type ChangeContext, type Changed } from '../change.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { ElsewhereError } from '../elsewhere.ts'
import { ApiError, ruleError } from '../errors.ts'
import { flag, idsOf, orderedPage } from '../parameters.ts'
import { requireResidency } from '../placement.ts'
import { cursorOf, pageReply, readFlag, readPage } from '../query.ts'
import { withBody, type Call, type Reply, type RouteTable } from '../routing.ts'
import { applicationIn, applicationList, applicationOut, applicationPatch, showApplication } from '../schemas/application.ts'
import { applicationOf, configurationOf, nameOf } from '../scope.ts'

function conflict(): ApiError {
  return new ApiError('conflict', 'An application with this uid already exists')
}

/** As the body of a request gives them. */
type GivenFields = z.output<typeof applicationIn>

/**
 * @throws {ValidationError} where there is no such zone
 * @throws {ElsewhereError} where it is to be, or an application of this uid is, in another zone than this region's
 */
async function newApplication({ deps, caller }: ChangeContext, given: GivenFields): Promise<NewApplication> {
  const { residency = null, ...fields } = given
  requireResidency(deps, residency)
  const other = fields.uid === null ? undefined : await deps.regional?.zones.elsewhere(caller.orgId, fields.uid)
  if (other !== undefined) throw new ElsewhereError([other.zone])
  return { ...fields, residency }
}

/**
 * Residency is given once.
 * @throws {ValidationError} where another one is given than the application has
 */
function requireSameResidency(current: Application, given: string | null | undefined): void {
  if (given === undefined || given === current.residency) return
  throw ruleError(['body', 'residency'], 'The residency of an application is set when it is created, and never changed')
}

/** Creates an application. @returns undefined where its uid is taken */
export async function createApplication({ deps, caller }: ChangeContext, fields: NewApplication): Promise<Application | undefined> {
  const configuration = deps.configuration.ofResidency(fields.residency)
  if (fields.uid !== null && (await configuration.hasNamesake(caller.orgId, fields.uid, fields.residency))) return undefined
  return changeConfiguration({ deps: { ...deps, configuration }, caller }, async (client, changed) => {
    const application = await insertApplication(client, newId('app'), caller.orgId, fields)
    if (application !== undefined) await changed({ operation: 'application.created', application, fields: Object.keys(fields).sort() })
    return application
  })
}

/**
 * The application named in the path, created from a body's `application` field where it does not exist yet.
 * @throws {ApiError} 404 where it neither exists nor is described
 * @throws {ValidationError} where the described one has another uid than the path
 */
export async function findOrCreateApplication(
  { deps, caller }: ChangeContext,
  pathName: string | undefined,
  described: GivenFields | null | undefined,
): Promise<Application> {
  const { reads } = placeOf({ deps, caller }, pathName, described?.residency)
  if (described === null || described === undefined) return applicationOf(reads, caller, pathName)
  const found = await findApplication(reads, caller.orgId, nameOf(pathName))
  if (found !== undefined) return found
  if (described.uid !== pathName) throw ruleError(['body', 'application', 'uid'], 'The uid must be the one in the path')
  const created = await createApplication({ deps, caller }, await newApplication({ deps, caller }, described))
  return created ?? applicationOf(reads, caller, pathName)
}

/** Where an application of this name is configured, or is to be where it has this residency. */
function placeOf({ deps, caller }: ChangeContext, name: string | undefined, residency: string | null | undefined): Configuration {
  const hasZone = residency !== null && residency !== undefined
  return hasZone ? deps.configuration.ofResidency(residency) : configurationOf(deps, caller, name)
}

async function list({ deps, caller, query }: Call): Promise<Reply> {
  const page = readPage(query, { order: 'ascending', orderable: true, isCursor: cursorOf('app') })
  const rows = await deps.configuration.list(page, (db, zone) => listApplications(db, caller.orgId, page, zone))
  return { status: 200, json: pageReply(rows, (row) => row.id, showApplication) }
}

async function create(call: Call<typeof applicationIn>): Promise<Reply> {
  const { deps, caller, query } = call
  const getIfExists = readFlag(query, 'get_if_exists', false)
  const fields = await call.body()
  const created = await createApplication(call, await newApplication(call, fields))
  if (created !== undefined) return { status: 201, json: showApplication(created) }
  if (!getIfExists) throw conflict()
  const { reads } = configurationOf(deps, caller, fields.uid)
  return { status: 200, json: showApplication(await applicationOf(reads, caller, fields.uid ?? '')) }
}

async function get({ deps, caller, path }: Call): Promise<Reply> {
  return { status: 200, json: showApplication(await applicationOf(deps.configuration.reads, caller, path['app_id'])) }
}

interface Update {
  readonly db: Queryable
  readonly changed: Changed
  readonly deps: Pick<ApiDependencies, 'configuration' | 'regional'>
}

/** @throws {ApiError} 409 where the new uid is one of an application in another zone, or configured at another place */
async function update({ db, changed, deps }: Update, current: Application, fields: ApplicationFields): Promise<Application> {
  const { uid } = fields
  if (uid !== null && uid !== current.uid) {
    const { orgId, residency } = current
    if ((await deps.regional?.zones.elsewhere(orgId, uid)) !== undefined) throw conflict()
    if (await deps.configuration.hasNamesake(orgId, uid, residency)) throw conflict()
  }
  const updated = await updateApplication(db, current.id, fields)
  await changed({ operation: 'application.updated', application: updated, fields: changedFields(current, updated) })
  return updated
}

async function put(call: Call<typeof applicationIn>): Promise<Reply> {
  const { deps, caller, path } = call
  const fields = await call.body()
  const configuration = placeOf(call, path['app_id'], fields.residency)
  const updated = await changeConfiguration({ deps: { ...deps, configuration }, caller }, async (client, changed) => {
    const current = await findApplication(client, caller.orgId, nameOf(path['app_id']), { forUpdate: true })
    if (current === undefined) return undefined
    requireSameResidency(current, fields.residency)
    return update({ db: client, changed, deps }, current, fields)
  })
  if (updated !== undefined) return { status: 200, json: showApplication(updated) }
  const created = await createApplication(call, await newApplication(call, fields))
  if (created === undefined) throw conflict()
  return { status: 201, json: showApplication(created) }
}

async function patch(call: Call<typeof applicationPatch>): Promise<Reply> {
  const { deps, caller, path } = call
  const { residency, ...changes } = await call.body()
  const set = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined)) as Partial<ApplicationFields>
  const updated = await changeConfiguration(call, async (client, changed) => {
    const current = await applicationOf(client, caller, path['app_id'], { forUpdate: true })
    requireSameResidency(current, residency)
    return update({ db: client, changed, deps }, current, { ...current, ...set })
  })
  return { status: 200, json: showApplication(updated) }
}

async function remove(call: Call): Promise<Reply> {
  await changeConfiguration(call, async (client, changed) => {
    const current = await applicationOf(client, call.caller, call.path['app_id'], { forUpdate: true })
    await deleteApplication(client, current.id)
    await changed({ operation: 'application.deleted', application: current })
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
