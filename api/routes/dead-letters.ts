import { isId } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import { deadLetterCursor, listDeadLetters, readClock, redriveDeadLetters, type Redrive } from '../../storage/history/dead-letters.ts'
import { writing } from '../../storage/history/reads.ts'
import { fromHistory } from '../history.ts'
import { idOrUid, idsOf, orderedPage } from '../parameters.ts'
import { listReply, readPage } from '../query.ts'
import { withBody, type Call, type Reply, type RouteTable } from '../routing.ts'
import { deadLetterList, redriveIn, redriveOut, showDeadLetter } from '../schemas/message.ts'
import { applicationOf, endpointOf } from '../scope.ts'
import { mergeLists, type Merge } from '../shards.ts'
import { beginTask } from '../tasks.ts'

function isCursor(text: string): boolean {
  const [message = '', endpoint = '', ...rest] = text.split('.')
  return rest.length === 0 && isId('msg', message) && isId('ep', endpoint)
}

async function list(call: Call): Promise<Reply> {
  const { deps, caller, path, query } = call
  const page = readPage(query, { order: 'descending', orderable: true, isCursor })
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const endpointName = query.get('endpoint_id')
  const endpointId = endpointName === null ? undefined : (await endpointOf(deps.pool, application, endpointName)).id
  const rows = await fromHistory(call, application, (db) => listDeadLetters(db, application.id, { endpointId }, page))
  return listReply(page, rows, deadLetterCursor, showDeadLetter)
}

/** Puts dead letters back: as many as one request may now, the others in the background. */
async function redrive(call: Call<typeof redriveIn>): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const input = await call.body()
  const endpointId = input.endpointId ? (await endpointOf(deps.pool, application, input.endpointId)).id : undefined
  const wanted: Redrive = {
    applicationId: application.id,
    endpointId,
    messageIds: input.messageIds ?? undefined,
    diedBefore: await readClock(deps.pool),
  }
  let redriven = 0
  while (redriven < LIMITS.redriveMaxPerRequest) {
    const batch = await writing(deps.history, application.id, () => redriveDeadLetters(deps.pool, wanted, LIMITS.redriveBatch))
    redriven += batch
    if (batch < LIMITS.redriveBatch) return { status: 202, json: { redriven, done: true } }
  }
  const task = { orgId: caller.orgId, appId: application.id, task: 'dead-letter.redrive', input: wanted, data: { redriven } } as const
  const { id: taskId } = await beginTask(deps, task)
  return { status: 202, json: { redriven, done: false, taskId } }
}

interface Redriven {
  readonly redriven: number
  readonly done: boolean
  readonly taskId?: string
}

/** What is left in several databases is one task. */
const mergeRedriven: Merge = (replies) => {
  const all = replies.map(({ json }) => json as Redriven)
  const taskId = all.find((one) => one.taskId !== undefined)?.taskId
  const redriven = all.reduce((sum, one) => sum + one.redriven, 0)
  return { status: 202, json: { redriven, done: taskId === undefined, ...(taskId === undefined ? {} : { taskId }) } }
}

export const deadLetterRoutes: RouteTable = {
  '/app/{app_id}/dead-letter': {
    get: {
      operationId: 'v1.dead-letter.list',
      summary: 'List Dead Letters',
      tag: 'Dead Letter',
      description: 'Deliveries that ran out of attempts.',
      query: { ...orderedPage(`${idsOf('msg')}\\.${idsOf('ep')}`), endpoint_id: idOrUid('Only dead letters of this endpoint') },
      replies: { 200: deadLetterList },
      access: 'application',
      across: { all: mergeLists() },
      handle: list,
    },
  },
  '/app/{app_id}/dead-letter/redrive': {
    post: withBody({
      operationId: 'v1.dead-letter.redrive',
      summary: 'Redrive Dead Letters',
      tag: 'Dead Letter',
      description: 'Puts dead letters back with their whole retry schedule: those of the endpoint and messages that are named, or all.',
      body: redriveIn,
      replies: { 202: redriveOut },
      access: 'application',
      across: { all: mergeRedriven },
      handle: redrive,
    }),
  },
}
