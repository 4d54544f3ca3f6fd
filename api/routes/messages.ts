import { fanOutWorkflowId } from '../../domain/names.ts'
import { expungeMessage, findGroupOfMessage, listMessages } from '../../storage/history/messages.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { pageReply, readFlag, readHistory } from '../query.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { showMessage } from '../schemas/message.ts'
import { applicationOf, messageOf, requireOrganisation } from '../scope.ts'

/** The workflow that carries the message: Postgres knows once anything was recorded, until then Temporal is asked. */
async function workflowIdOf(deps: ApiDependencies, messageId: string): Promise<string | undefined> {
  const groupId = await findGroupOfMessage(deps.pool, messageId)
  return groupId === undefined ? deps.findFanOut(messageId) : fanOutWorkflowId(groupId)
}

async function list({ deps, caller, path, query }: Call): Promise<Reply> {
  const { page, filter } = readHistory(query, 'msg', Date.now())
  const withPayload = readFlag(query, 'with_content', true)
  const application = await applicationOf(deps.pool, caller, path['app'])
  const rows = await listMessages(deps.pool, application.id, filter, page, { withPayload })
  return { status: 200, json: pageReply(rows, (row) => row.id, showMessage) }
}

async function get({ deps, caller, path, query }: Call): Promise<Reply> {
  const withPayload = readFlag(query, 'with_content', true)
  const application = await applicationOf(deps.pool, caller, path['app'])
  const message = await messageOf(deps.pool, application, path['message'], { withPayload })
  const workflowId = await workflowIdOf(deps, message.id)
  return { status: 200, json: { ...showMessage(message), ...(workflowId === undefined ? {} : { workflowId }) } }
}

async function expunge({ deps, caller, path }: Call): Promise<Reply> {
  requireOrganisation(caller)
  const application = await applicationOf(deps.pool, caller, path['app'])
  const message = await messageOf(deps.pool, application, path['message'])
  await expungeMessage(deps.pool, message.id)
  return { status: 204 }
}

/** Publishing has a route of its own (`publish.ts`), mounted before these. */
export const messageRoutes: RouteTable = {
  '/app/:app/msg': { get: list },
  '/app/:app/msg/:message': { get },
  '/app/:app/msg/:message/content': { delete: expunge },
}
