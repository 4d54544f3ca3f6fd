import { LIMITS } from '../../domain/limits.ts'
import {
  archiveEventType,
  countEventTypes,
  expungeEventType,
  findEventType,
  insertEventType,
  listEventTypes,
  updateEventType,
  type EventType,
  type EventTypeFields,
} from '../../storage/event-types.ts'
import type { Queryable } from '../../storage/pool.ts'
import { changeConfiguration, changedFields, type Changed } from '../change.ts'
import { ApiError, notFound } from '../errors.ts'
import { flag, orderedPage } from '../parameters.ts'
import { pageReply, readFlag, readPage } from '../query.ts'
import { withBody, type Call, type Reply, type RouteTable } from '../routing.ts'
import {
  eventTypeIn,
  eventTypeList,
  eventTypeName,
  eventTypeOut,
  eventTypePatch,
  eventTypeUpdate,
  showEventType,
} from '../schemas/event-type.ts'
import { NAME_PATTERN } from '../schemas/names.ts'
import { parseBody } from '../schemas/parse.ts'

/** @throws {ApiError} 404 for a text that no event type can be named */
function nameIn(path: Call['path']): string {
  const name = path['event_type_name'] ?? ''
  if (!NAME_PATTERN.test(name)) throw notFound()
  return name
}

async function list({ deps, caller, query }: Call): Promise<Reply> {
  const page = readPage(query, { order: 'ascending', orderable: true, isCursor: (text) => NAME_PATTERN.test(text) })
  const filter = { includeArchived: readFlag(query, 'include_archived', false), featureFlags: caller.featureFlags }
  const withContent = readFlag(query, 'with_content', false)
  const rows = await listEventTypes(deps.configuration.reads, caller.orgId, filter, page)
  return {
    status: 200,
    json: pageReply(
      rows,
      (row) => row.name,
      (row) => showEventType(row, { withContent }),
    ),
  }
}

async function insert(
  db: Queryable,
  changed: Changed,
  orgId: string,
  name: string,
  fields: EventTypeFields,
): Promise<EventType | undefined> {
  if ((await countEventTypes(db, orgId)) >= LIMITS.eventTypesPerOrganisation) {
    throw new ApiError('limit_reached', `An organisation has at most ${LIMITS.eventTypesPerOrganisation} event types`)
  }
  const created = await insertEventType(db, orgId, name, fields)
  if (created !== undefined) await changed({ operation: 'event-type.created', objectId: name, fields: Object.keys(fields).sort() })
  return created
}

async function update(db: Queryable, changed: Changed, current: EventType, fields: EventTypeFields): Promise<EventType> {
  const updated = await updateEventType(db, current.orgId, current.name, fields)
  await changed({ operation: 'event-type.updated', objectId: current.name, fields: changedFields(current, updated) })
  return updated
}

async function create(call: Call<typeof eventTypeIn>): Promise<Reply> {
  const { caller } = call
  const { name, ...fields } = await call.body()
  const created = await changeConfiguration(call, (client, changed) => insert(client, changed, caller.orgId, name, fields))
  if (created === undefined) throw new ApiError('event_type_exists', 'An event_type with this name already exists')
  return { status: 201, json: showEventType(created) }
}

async function get({ deps, caller, path }: Call): Promise<Reply> {
  const eventType = await findEventType(deps.configuration.reads, caller.orgId, nameIn(path))
  if (eventType === undefined) throw notFound()
  const hidden = caller.featureFlags !== undefined && eventType.featureFlag !== null && !caller.featureFlags.includes(eventType.featureFlag)
  if (hidden) throw notFound()
  return { status: 200, json: showEventType(eventType) }
}

async function put(call: Call<typeof eventTypeUpdate>): Promise<Reply> {
  const { caller, path } = call
  const fields = await call.body()
  const { name } = parseBody(eventTypeName, { name: path['event_type_name'] })
  return changeConfiguration(call, async (client, changed): Promise<Reply> => {
    let current = await findEventType(client, caller.orgId, name, { forUpdate: true })
    if (current === undefined) {
      const created = await insert(client, changed, caller.orgId, name, fields)
      if (created !== undefined) return { status: 201, json: showEventType(created) }
      // Created by another request in between.
      current = await findEventType(client, caller.orgId, name, { forUpdate: true })
    }
    if (current === undefined) throw notFound()
    return { status: 200, json: showEventType(await update(client, changed, current, fields)) }
  })
}

async function patch(call: Call<typeof eventTypePatch>): Promise<Reply> {
  const { caller, path } = call
  const name = nameIn(path)
  const changes = await call.body()
  const set = Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined)) as Partial<EventTypeFields>
  const updated = await changeConfiguration(call, async (client, changed) => {
    const current = await findEventType(client, caller.orgId, name, { forUpdate: true })
    if (current === undefined) throw notFound()
    return update(client, changed, current, { ...current, ...set })
  })
  return { status: 200, json: showEventType(updated) }
}

async function remove(call: Call): Promise<Reply> {
  const { caller, path, query } = call
  const name = nameIn(path)
  const expunges = readFlag(query, 'expunge', false)
  const drop = expunges ? expungeEventType : archiveEventType
  await changeConfiguration(call, async (client, changed) => {
    if (!(await drop(client, caller.orgId, name))) throw notFound()
    await changed({ operation: expunges ? 'event-type.expunged' : 'event-type.archived', objectId: name })
  })
  return { status: 204 }
}

export const eventTypeRoutes: RouteTable = {
  '/event-type': {
    get: {
      operationId: 'v1.event-type.list',
      summary: 'List Event Types',
      tag: 'Event Type',
      query: {
        ...orderedPage('[a-zA-Z0-9\\-_.]+'),
        include_archived: flag('When `true` archived (deleted but not expunged) items are included in the response', false),
        with_content: flag('When `true` the full item (including the schema) is included in the response', false),
      },
      replies: { 200: eventTypeList },
      access: 'application',
      handle: list,
    },
    post: withBody({
      operationId: 'v1.event-type.create',
      summary: 'Create Event Type',
      tag: 'Event Type',
      description: 'An archived event type of this name is unarchived and takes these fields.',
      body: eventTypeIn,
      replies: { 201: eventTypeOut },
      access: 'organisation',
      handle: create,
    }),
  },
  '/event-type/{event_type_name}': {
    get: {
      operationId: 'v1.event-type.get',
      summary: 'Get Event Type',
      tag: 'Event Type',
      replies: { 200: eventTypeOut },
      access: 'application',
      handle: get,
    },
    put: withBody({
      operationId: 'v1.event-type.update',
      summary: 'Update Event Type',
      tag: 'Event Type',
      description: 'Creates the event type where there is none. Absent fields are reset.',
      body: eventTypeUpdate,
      replies: { 200: eventTypeOut, 201: eventTypeOut },
      access: 'organisation',
      handle: put,
    }),
    patch: withBody({
      operationId: 'patch_event_type',
      summary: 'Patch Event Type',
      tag: 'Event Type',
      description: 'Absent fields stay; null clears a field that may be empty.',
      body: eventTypePatch,
      replies: { 200: eventTypeOut },
      access: 'organisation',
      handle: patch,
    }),
    delete: {
      operationId: 'v1.event-type.delete',
      summary: 'Delete Event Type',
      tag: 'Event Type',
      query: {
        expunge: flag('By default, event types are archived when "deleted". With this set to `true`, they are deleted entirely.', false),
      },
      replies: { 204: null },
      access: 'organisation',
      handle: remove,
    },
  },
}
