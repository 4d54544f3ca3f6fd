import { isId } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import { TRIGGER_MANUAL } from '../../domain/outcome.ts'
import { deadLetterCursor, deleteDeadLetters, listDeadLetters } from '../../storage/history/dead-letters.ts'
import { idOrUid, ORDERED_PAGE } from '../parameters.ts'
import { pageReply, readPage } from '../query.ts'
import { withBody, type Call, type Reply, type RouteTable } from '../routing.ts'
import { deadLetterList, redriveIn, redriveOut, showDeadLetter } from '../schemas/message.ts'
import { applicationOf, endpointOf } from '../scope.ts'

function isCursor(text: string): boolean {
  const [message = '', endpoint = '', ...rest] = text.split('.')
  return rest.length === 0 && isId('msg', message) && isId('ep', endpoint)
}

async function list({ deps, caller, path, query }: Call): Promise<Reply> {
  const page = readPage(query, { order: 'descending', orderable: true, isCursor })
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const endpointName = query.get('endpoint_id')
  const endpointId = endpointName === null ? undefined : (await endpointOf(deps.pool, application, endpointName)).id
  const rows = await listDeadLetters(deps.pool, application.id, { endpointId }, page)
  return { status: 200, json: pageReply(rows, deadLetterCursor, showDeadLetter) }
}

/**
 * Puts dead letters back, oldest first, with their whole retry schedule. Each batch enters the outbox before its rows leave:
 * a crash between the two sends a message twice, the other order could lose it. Letters whose message is gone or whose
 * endpoint is disabled or deleted stay.
 */
async function redrive(call: Call<typeof redriveIn>): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const input = await call.body()
  const endpointId = input.endpointId ? (await endpointOf(deps.pool, application, input.endpointId)).id : undefined
  const filter = { endpointId, messageIds: input.messageIds ?? undefined, redrivable: true }
  let redriven = 0
  let done = false
  let from: string | undefined
  while (!done && redriven < LIMITS.redriveMaxPerRequest) {
    const page = await listDeadLetters(deps.pool, application.id, filter, { limit: LIMITS.redriveBatch, order: 'ascending', from })
    const last = page.rows.at(-1)
    done = page.done || last === undefined
    if (last === undefined) break
    from = deadLetterCursor(last)
    await deps.intake.sendAgain(
      page.rows.map(({ messageId, endpointId: target, eventType }) => ({
        messageId,
        appId: application.id,
        eventType,
        endpointId: target,
        trigger: TRIGGER_MANUAL,
        retried: true,
      })),
    )
    await deleteDeadLetters(deps.pool, page.rows)
    redriven += page.rows.length
  }
  return { status: 202, json: { redriven, done } }
}

export const deadLetterRoutes: RouteTable = {
  '/app/{app_id}/dead-letter': {
    get: {
      operationId: 'v1.dead-letter.list',
      summary: 'List Dead Letters',
      tag: 'Dead Letter',
      description: 'Deliveries that ran out of attempts.',
      query: { ...ORDERED_PAGE, endpoint_id: idOrUid('Only dead letters of this endpoint') },
      replies: { 200: deadLetterList },
      access: 'application',
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
      handle: redrive,
    }),
  },
}
