import { expungeAttempt, findAttempt, listAttempts, type Attempt, type AttemptFilter } from '../../storage/history/attempts.ts'
import { findMessages } from '../../storage/history/messages.ts'
import { listAttemptedMessages, listDestinations, type DestinationStatus } from '../../storage/history/destinations.ts'
import { writing } from '../../storage/history/reads.ts'
import type { Queryable } from '../../storage/pool.ts'
import type { Application } from '../../storage/applications.ts'
import { listHandings } from '../../storage/handed-over.ts'
import { STATUS_SENDING } from '../../domain/outcome.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { notFound } from '../errors.ts'
import { fromHistory } from '../history.ts'
import {
  flag,
  history,
  idOrUid,
  idsOf,
  page,
  STATUS,
  STATUS_CODE_CLASS,
  STATUS_CODE_CLASSES,
  STATUSES,
  type QueryParameters,
} from '../parameters.ts'
import { cursorOf, listReply, pageReply, readChoice, readFlag, readHistory, readPage } from '../query.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { showDestination } from '../schemas/endpoint.ts'
import {
  attemptList,
  attemptOut,
  endpointMessageList,
  messageEndpointList,
  showAttempt,
  showHanding,
  showMessage,
  showState,
} from '../schemas/message.ts'
import { applicationOf, attemptId, endpointOf, messageOf } from '../scope.ts'
import { mergeLists } from '../shards.ts'

type Scope = Pick<AttemptFilter, 'messageId' | 'endpointId'>

async function listBy({ deps, query }: Call, db: Queryable, application: Application, scope: Scope): Promise<Reply> {
  const { page, filter } = readHistory(query, 'atmpt', Date.now())
  const withContent = readFlag(query, 'with_content', true)
  const withMessage = readFlag(query, 'with_msg', false)
  const status = readChoice(query, 'status', STATUSES)
  const statusCodeClass = readChoice(query, 'status_code_class', STATUS_CODE_CLASSES)
  const rows = await listAttempts(db, application.id, { ...filter, ...scope, status, statusCodeClass }, page)
  const messages = withMessage ? await findMessages(db, [...new Set(rows.rows.map((row) => row.messageId))]) : new Map<string, never>()
  const show = (row: Attempt) => {
    const message = messages.get(row.messageId)
    return { ...showAttempt(row, { withContent }), ...(message === undefined ? {} : { msg: showMessage(message) }) }
  }
  const handedOver = scope.messageId === undefined ? undefined : await handedOverOf(deps, db, scope.messageId, scope.endpointId)
  const reply = listReply(page, rows, (row) => row.id, show)
  return { ...reply, json: { ...reply.json, ...handedOver } }
}

/** Which of its deliveries other regions attempt. */
async function handedOverOf({ config: { regions } }: ApiDependencies, db: Queryable, messageId: string, endpointId: string | undefined) {
  if (regions === undefined) return undefined
  const handings = await listHandings(db, messageId)
  const shown = handings.filter(({ endpointIds }) => endpointId === undefined || endpointIds.includes(endpointId))
  return shown.length === 0 ? undefined : { handedOver: shown.map((one) => showHanding(one, regions)) }
}

async function byEndpoint(call: Call): Promise<Reply> {
  const application = await applicationOf(call.deps.pool, call.caller, call.path['app_id'])
  const endpoint = await endpointOf(call.deps.pool, application, call.path['endpoint_id'])
  return fromHistory(call, application, (db) => listBy(call, db, application, { endpointId: endpoint.id }))
}

async function byMessage(call: Call): Promise<Reply> {
  const { deps, caller, path, query } = call
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const endpointName = path['endpoint_id'] ?? query.get('endpoint_id') ?? undefined
  const endpointId = endpointName === undefined ? undefined : (await endpointOf(deps.pool, application, endpointName)).id
  return fromHistory(call, application, async (db) => {
    const message = await messageOf(db, application, path['msg_id'])
    return listBy(call, db, application, { messageId: message.id, endpointId })
  })
}

async function get(call: Call): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const attempt = await fromHistory(call, application, async (db) => {
    const message = await messageOf(db, application, path['msg_id'])
    const found = await findAttempt(db, message.id, attemptId(path['attempt_id']))
    if (found === undefined) throw notFound()
    return found
  })
  return { status: 200, json: showAttempt(attempt) }
}

async function expunge({ deps, caller, path }: Call): Promise<Reply> {
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const message = await messageOf(deps.pool, application, path['msg_id'])
  const id = attemptId(path['attempt_id'])
  if (!(await writing(deps.history, application.id, () => expungeAttempt(deps.pool, message.id, id)))) throw notFound()
  return { status: 204 }
}

// Success and failure are stored; sending is a failure with another attempt due; pending is never shown.
function readKeep(query: URLSearchParams): DestinationStatus | undefined {
  const status = readChoice(query, 'status', STATUSES)
  if (status === undefined) return undefined
  return status === STATUS_SENDING ? { waiting: true } : { status }
}

async function attemptedMessages(call: Call): Promise<Reply> {
  const { deps, caller, path, query } = call
  const { page, filter } = readHistory(query, 'msg', Date.now())
  const withPayload = readFlag(query, 'with_content', true)
  const keep = readKeep(query)
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const endpoint = await endpointOf(deps.pool, application, path['endpoint_id'])
  const rows = await fromHistory(call, application, (db) =>
    listAttemptedMessages(db, application.id, { ...filter, endpointId: endpoint.id, keep }, page, { withPayload }),
  )
  return listReply(
    page,
    rows,
    (row) => row.id,
    (row) => ({ ...showMessage(row), ...showState(row, { derived: true }) }),
  )
}

async function destinations(call: Call): Promise<Reply> {
  const { deps, caller, path, query } = call
  const page = readPage(query, { order: 'ascending', isCursor: cursorOf('ep') })
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const rows = await fromHistory(call, application, async (db) => {
    const message = await messageOf(db, application, path['msg_id'])
    return listDestinations(db, message.id, page)
  })
  return {
    status: 200,
    json: pageReply(
      rows,
      (row) => row.id,
      (row) => ({ ...showDestination(row), ...showState(row, { derived: false }) }),
    ),
  }
}

const BY_ENDPOINT: QueryParameters = {
  ...history('atmpt'),
  status: STATUS,
  status_code_class: STATUS_CODE_CLASS,
  with_content: flag('When `true` attempt content is included in the response', true),
  with_msg: flag('When `true` the message information is included in the response', false),
}
const BY_MESSAGE: QueryParameters = { ...BY_ENDPOINT, endpoint_id: idOrUid('Filter the attempts based on the attempted endpoint') }

export const attemptRoutes: RouteTable = {
  '/app/{app_id}/attempt/endpoint/{endpoint_id}': {
    get: {
      operationId: 'v1.message-attempt.list-by-endpoint',
      summary: 'List Attempts By Endpoint',
      tag: 'Message Attempt',
      query: BY_ENDPOINT,
      replies: { 200: attemptList },
      access: 'application',
      across: { all: mergeLists() },
      handle: byEndpoint,
    },
  },
  '/app/{app_id}/attempt/msg/{msg_id}': {
    get: {
      operationId: 'v1.message-attempt.list-by-msg',
      summary: 'List Attempts By Msg',
      tag: 'Message Attempt',
      query: BY_MESSAGE,
      replies: { 200: attemptList },
      access: 'application',
      across: { of: 'message' },
      handle: byMessage,
    },
  },
  '/app/{app_id}/endpoint/{endpoint_id}/msg': {
    get: {
      operationId: 'v1.message-attempt.list-attempted-messages',
      summary: 'List Attempted Messages',
      tag: 'Message Attempt',
      description: 'Messages that the endpoint was sent, each with how its last attempt there ended.',
      query: { ...history('msg'), status: STATUS, with_content: flag('When `true` message payloads are included in the response', true) },
      replies: { 200: endpointMessageList },
      access: 'application',
      across: { all: mergeLists() },
      handle: attemptedMessages,
    },
  },
  '/app/{app_id}/msg/{msg_id}/endpoint': {
    get: {
      operationId: 'v1.message-attempt.list-attempted-destinations',
      summary: 'List Attempted Destinations',
      tag: 'Message Attempt',
      description: 'Endpoints that the message was sent to, each with how its last attempt ended; deleted endpoints included.',
      query: page(idsOf('ep')),
      replies: { 200: messageEndpointList },
      access: 'application',
      across: { of: 'message' },
      handle: destinations,
    },
  },
  '/app/{app_id}/msg/{msg_id}/attempt': {
    get: {
      operationId: 'v1.message-attempt.list-by-msg-deprecated',
      summary: 'List Attempts By Msg (older path)',
      tag: 'Message Attempt',
      query: BY_MESSAGE,
      replies: { 200: attemptList },
      access: 'application',
      across: { of: 'message' },
      handle: byMessage,
    },
  },
  '/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/attempt': {
    get: {
      operationId: 'v1.message-attempt.list-by-endpoint-deprecated',
      summary: 'List Attempts By Msg And Endpoint (older path)',
      tag: 'Message Attempt',
      query: BY_ENDPOINT,
      replies: { 200: attemptList },
      access: 'application',
      across: { of: 'message' },
      handle: byMessage,
    },
  },
  '/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}': {
    get: {
      operationId: 'v1.message-attempt.get',
      summary: 'Get Attempt',
      tag: 'Message Attempt',
      replies: { 200: attemptOut },
      access: 'application',
      across: { of: 'message' },
      handle: get,
    },
  },
  '/app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content': {
    delete: {
      operationId: 'v1.message-attempt.expunge-content',
      summary: 'Expunge Attempt Content',
      tag: 'Message Attempt',
      description: 'Deletes what the endpoint answered; the attempt stays.',
      replies: { 204: null },
      access: 'organisation',
      across: { of: 'message' },
      handle: expunge,
    },
  },
}
