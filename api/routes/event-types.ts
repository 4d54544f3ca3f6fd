import {
  archiveEventType,
  expungeEventType,
  findEventType,
  insertEventType,
  listEventTypes,
  updateEventType,
  type EventTypeFields,
} from '../../storage/event-types.ts'
import { inTransaction } from '../../storage/pool.ts'
import { ApiError, notFound } from '../errors.ts'
import { pageReply, readFlag, readPage } from '../query.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { eventTypeIn, eventTypePatch, eventTypeUpdate, showEventType, withFeatureFlag } from '../schemas/event-type.ts'
import { NAME_PATTERN } from '../schemas/names.ts'
import { parseBody } from '../schemas/parse.ts'
import { requireOrganisation } from '../scope.ts'

/** @throws {ApiError} 404 for a text that no event type can be named */
function nameIn(path: Call['path']): string {
  const name = path['name'] ?? ''
  if (!NAME_PATTERN.test(name)) throw notFound()
  return name
}

async function list({ deps, caller, query }: Call): Promise<Reply> {
  const page = readPage(query, { order: 'ascending', orderable: true, isCursor: (text) => NAME_PATTERN.test(text) })
  const filter = { includeArchived: readFlag(query, 'include_archived', false), featureFlags: caller.featureFlags }
  const withContent = readFlag(query, 'with_content', false)
  const rows = await listEventTypes(deps.pool, caller.orgId, filter, page)
  return {
    status: 200,
    json: pageReply(
      rows,
      (row) => row.name,
      (row) => showEventType(row, { withContent }),
    ),
  }
}

async function create(call: Call): Promise<Reply> {
  const { deps, caller } = call
  requireOrganisation(caller)
  const { name, ...fields } = parseBody(eventTypeIn, withFeatureFlag(await call.body()))
  const created = await insertEventType(deps.pool, caller.orgId, name, fields)
  if (created === undefined) throw new ApiError('event_type_exists', 'An event_type with this name already exists')
  return { status: 201, json: showEventType(created) }
}

async function get({ deps, caller, path }: Call): Promise<Reply> {
  const eventType = await findEventType(deps.pool, caller.orgId, nameIn(path))
  if (eventType === undefined) throw notFound()
  const hidden = caller.featureFlags !== undefined && eventType.featureFlag !== null && !caller.featureFlags.includes(eventType.featureFlag)
  if (hidden) throw notFound()
  return { status: 200, json: showEventType(eventType) }
}

async function put(call: Call): Promise<Reply> {
  const { deps, caller, path } = call
  requireOrganisation(caller)
  const fields = parseBody(eventTypeUpdate, withFeatureFlag(await call.body()))
  const { name } = parseBody(eventTypeIn.pick({ name: true }), { name: path['name'] })
  return inTransaction(deps.pool, async (client): Promise<Reply> => {
    const current = await findEventType(client, caller.orgId, name, { forUpdate: true })
    if (current !== undefined) return { status: 200, json: showEventType(await updateEventType(client, caller.orgId, name, fields)) }
    const created = await insertEventType(client, caller.orgId, name, fields)
    if (created !== undefined) return { status: 201, json: showEventType(created) }
    // Created by another request in between.
    return { status: 200, json: showEventType(await updateEventType(client, caller.orgId, name, fields)) }
  })
}

async function patch(call: Call): Promise<Reply> {
  const { deps, caller, path } = call
  requireOrganisation(caller)
  const name = nameIn(path)
  const changes = parseBody(eventTypePatch, withFeatureFlag(await call.body()))
  const set = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined)) as Partial<EventTypeFields>
  const updated = await inTransaction(deps.pool, async (client) => {
    const current = await findEventType(client, caller.orgId, name, { forUpdate: true })
    if (current === undefined) throw notFound()
    return updateEventType(client, caller.orgId, name, { ...current, ...set })
  })
  return { status: 200, json: showEventType(updated) }
}

async function remove({ deps, caller, path, query }: Call): Promise<Reply> {
  requireOrganisation(caller)
  const name = nameIn(path)
  const drop = readFlag(query, 'expunge', false) ? expungeEventType : archiveEventType
  if (!(await drop(deps.pool, caller.orgId, name))) throw notFound()
  return { status: 204 }
}

export const eventTypeRoutes: RouteTable = {
  '/event-type': { get: list, post: create },
  '/event-type/:name': { get, put, patch, delete: remove },
}
