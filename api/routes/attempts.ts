import { expungeAttempt, findAttempt, listAttempts, type Attempt, type AttemptFilter } from '../../storage/history/attempts.ts'
import { findMessages } from '../../storage/history/messages.ts'
import { listAttemptedMessages, listDestinations, type DestinationStatus } from '../../storage/history/destinations.ts'
import type { Application } from '../../storage/applications.ts'
import { STATUS_FAIL, STATUS_PENDING, STATUS_SENDING, STATUS_SUCCESS } from '../../domain/outcome.ts'
import { notFound } from '../errors.ts'
import { cursorOf, pageReply, readChoice, readFlag, readHistory, readPage } from '../query.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { showDestination } from '../schemas/endpoint.ts'
import { showAttempt, showMessage, showState } from '../schemas/message.ts'
import { applicationOf, attemptId, endpointOf, messageOf, requireOrganisation } from '../scope.ts'

const STATUSES = [STATUS_SUCCESS, STATUS_PENDING, STATUS_FAIL, STATUS_SENDING] as const
const STATUS_CODE_CLASSES = [0, 100, 200, 300, 400, 500] as const

async function listBy(call: Call, application: Application, scope: Pick<AttemptFilter, 'messageId' | 'endpointId'>): Promise<Reply> {
  const { deps, query } = call
  const { page, filter } = readHistory(query, 'atmpt', Date.now())
  const withContent = readFlag(query, 'with_content', true)
  const withMessage = readFlag(query, 'with_msg', false)
  const status = readChoice(query, 'status', STATUSES)
  const statusCodeClass = readChoice(query, 'status_code_class', STATUS_CODE_CLASSES)
  const rows = await listAttempts(deps.pool, application.id, { ...filter, ...scope, status, statusCodeClass }, page)
  const messages = withMessage
    ? await findMessages(deps.pool, [...new Set(rows.rows.map((row) => row.messageId))])
    : new Map<string, never>()
  const show = (row: Attempt) => {
    const message = messages.get(row.messageId)
    return { ...showAttempt(row, { withContent }), ...(message === undefined ? {} : { msg: showMessage(message) }) }
  }
  return { status: 200, json: pageReply(rows, (row) => row.id, show) }
}

async function byEndpoint(call: Call): Promise<Reply> {
  const application = await applicationOf(call.deps.pool, call.caller, call.path['app'])
  const endpoint = await endpointOf(call.deps.pool, application, call.path['endpoint'])
  return listBy(call, application, { endpointId: endpoint.id })
}

async function byMessage(call: Call): Promise<Reply> {
  const { deps, caller, path, query } = call
  const application = await applicationOf(deps.pool, caller, path['app'])
  const message = await messageOf(deps.pool, application, path['message'])
  const endpointName = path['endpoint'] ?? query.get('endpoint_id') ?? undefined
  if (endpointName === undefined) return listBy(call, application, { messageId: message.id })
  const endpoint = await endpointOf(deps.pool, application, endpointName)
  return listBy(call, application, { messageId: message.id, endpointId: endpoint.id })
}

async function get({ deps, caller, path }: Call): Promise<Reply> {
  const application = await applicationOf(deps.pool, caller, path['app'])
  const message = await messageOf(deps.pool, application, path['message'])
  const attempt = await findAttempt(deps.pool, message.id, attemptId(path['attempt']))
  if (attempt === undefined) throw notFound()
  return { status: 200, json: showAttempt(attempt) }
}

async function expunge({ deps, caller, path }: Call): Promise<Reply> {
  requireOrganisation(caller)
  const application = await applicationOf(deps.pool, caller, path['app'])
  const message = await messageOf(deps.pool, application, path['message'])
  if (!(await expungeAttempt(deps.pool, message.id, attemptId(path['attempt'])))) throw notFound()
  return { status: 204 }
}

// Success and failure are stored; sending is a failure with another attempt due; pending is never shown.
function readKeep(query: URLSearchParams): DestinationStatus | undefined {
  const status = readChoice(query, 'status', STATUSES)
  if (status === undefined) return undefined
  return status === STATUS_SENDING ? { waiting: true } : { status }
}

async function attemptedMessages({ deps, caller, path, query }: Call): Promise<Reply> {
  const { page, filter } = readHistory(query, 'msg', Date.now())
  const withPayload = readFlag(query, 'with_content', true)
  const keep = readKeep(query)
  const application = await applicationOf(deps.pool, caller, path['app'])
  const endpoint = await endpointOf(deps.pool, application, path['endpoint'])
  const rows = await listAttemptedMessages(deps.pool, application.id, { ...filter, endpointId: endpoint.id, keep }, page, { withPayload })
  return {
    status: 200,
    json: pageReply(
      rows,
      (row) => row.id,
      (row) => ({ ...showMessage(row), ...showState(row, { derived: true }) }),
    ),
  }
}

async function destinations({ deps, caller, path, query }: Call): Promise<Reply> {
  const page = readPage(query, { order: 'ascending', isCursor: cursorOf('ep') })
  const application = await applicationOf(deps.pool, caller, path['app'])
  const message = await messageOf(deps.pool, application, path['message'])
  const rows = await listDestinations(deps.pool, message.id, page)
  return {
    status: 200,
    json: pageReply(
      rows,
      (row) => row.id,
      (row) => ({ ...showDestination(row), ...showState(row, { derived: false }) }),
    ),
  }
}

export const attemptRoutes: RouteTable = {
  '/app/:app/attempt/endpoint/:endpoint': { get: byEndpoint },
  '/app/:app/attempt/msg/:message': { get: byMessage },
  '/app/:app/endpoint/:endpoint/msg': { get: attemptedMessages },
  '/app/:app/msg/:message/endpoint': { get: destinations },
  '/app/:app/msg/:message/attempt': { get: byMessage },
  '/app/:app/msg/:message/endpoint/:endpoint/attempt': { get: byMessage },
  '/app/:app/msg/:message/attempt/:attempt': { get },
  '/app/:app/msg/:message/attempt/:attempt/content': { delete: expunge },
}
