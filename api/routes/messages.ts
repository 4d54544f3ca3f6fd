import { mailboxWorkflowId, workflowIdOfGroup } from '../../domain/names.ts'
import { expungeMessage, findCarrierOfMessage, listMessages } from '../../storage/history/messages.ts'
import { writing } from '../../storage/history/reads.ts'
import type { Queryable } from '../../storage/pool.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { fromHistory } from '../history.ts'
import { flag, history } from '../parameters.ts'
import { listReply, readFlag, readHistory } from '../query.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { messageList, messageOut, showMessage } from '../schemas/message.ts'
import { applicationOf, messageOf, orArchived } from '../scope.ts'
import { mergeLists } from '../shards.ts'
import { publishing } from './publish.ts'

/** The workflow that carries the message: Postgres knows once anything was recorded, until then Temporal is asked. */
async function workflowIdOf(deps: ApiDependencies, db: Queryable, messageId: string): Promise<string | undefined> {
  const carrier = await findCarrierOfMessage(db, messageId)
  if (carrier === undefined) return deps.findFanOut(messageId)
  return 'groupId' in carrier ? workflowIdOfGroup(carrier.groupId) : mailboxWorkflowId(carrier.mailboxOf)
}

async function list(call: Call): Promise<Reply> {
  const { deps, caller, path, query } = call
  const { page, filter } = readHistory(query, 'msg', Date.now())
  const withPayload = readFlag(query, 'with_content', true)
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const rows = await fromHistory(call, application, (db) => listMessages(db, application.id, filter, page, { withPayload }))
  return listReply(page, rows, (row) => row.id, showMessage)
}

async function get(call: Call): Promise<Reply> {
  const { deps, caller, path, query } = call
  const withPayload = readFlag(query, 'with_content', true)
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const found = fromHistory(call, application, async (db) => {
    const message = await messageOf(db, application, path['msg_id'], { withPayload })
    const workflowId = await workflowIdOf(deps, db, message.id)
    return { status: 200, json: { ...showMessage(message), ...(workflowId === undefined ? {} : { workflowId }) } }
  })
  return orArchived(deps, application, path['msg_id'], found)
}

async function expunge({ deps, caller, path }: Call): Promise<Reply> {
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const message = await messageOf(deps.pool, application, path['msg_id'])
  await writing(deps.history, application.id, () => expungeMessage(deps.pool, message.id))
  return { status: 204 }
}

export const messageRoutes: RouteTable = {
  '/app/{app_id}/msg': {
    get: {
      operationId: 'v1.message.list',
      summary: 'List Messages',
      tag: 'Message',
      description: 'Newest first, 90 days back unless bounded. With `after` alone pages begin at the oldest.',
      query: { ...history('msg'), with_content: flag('When `true` message payloads are included in the response', true) },
      replies: { 200: messageList },
      access: 'application',
      across: { all: mergeLists() },
      handle: list,
    },
    post: publishing,
  },
  '/app/{app_id}/msg/{msg_id}': {
    get: {
      operationId: 'v1.message.get',
      summary: 'Get Message',
      tag: 'Message',
      description: 'A message that has left the database for the archive is answered with 410, the code `archived` and its day.',
      query: { with_content: flag('When `true` message payloads are included in the response', true) },
      replies: { 200: messageOut },
      access: 'application',
      across: { of: 'message' },
      handle: get,
    },
  },
  '/app/{app_id}/msg/{msg_id}/content': {
    delete: {
      operationId: 'v1.message.expunge-content',
      summary: 'Expunge Message Content',
      tag: 'Message',
      description: 'Deletes the payload; the message stays.',
      replies: { 204: null },
      access: 'organisation',
      across: { of: 'message' },
      handle: expunge,
    },
  },
}
