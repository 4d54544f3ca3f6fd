import { newId, lowestIdAt } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import { STATUS_FAIL, STATUS_SUCCESS, TRIGGER_MANUAL, TRIGGER_SCHEDULED } from '../../domain/outcome.ts'
import { findEventType } from '../../storage/event-types.ts'
import { countAttempts } from '../../storage/history/attempts.ts'
import { hasPayload, insertUnroutedMessage } from '../../storage/history/messages.ts'
import { ApiError, notFound, ruleError } from '../errors.ts'
import { readTime } from '../query.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { eventExampleIn } from '../schemas/event-type.ts'
import { exampleOf } from '../schemas/example.ts'
import { recoverIn, showMessage } from '../schemas/message.ts'
import { parseBody } from '../schemas/parse.ts'
import { applicationOf, endpointOf, messageOf, requireOrganisation } from '../scope.ts'

const DAY_MS = 86_400_000

async function resend({ deps, caller, path }: Call): Promise<Reply> {
  const application = await applicationOf(deps.pool, caller, path['app'])
  const message = await messageOf(deps.pool, application, path['message'])
  const endpoint = await endpointOf(deps.pool, application, path['endpoint'])
  if (!(await hasPayload(deps.pool, message.id)))
    throw new ApiError('missing_payload', 'Unable to resend message. Payload is missing (probably expired).')
  if (!endpoint.disabled) {
    const { id: messageId, eventType } = message
    await deps.intake.sendAgain([
      { messageId, appId: application.id, eventType, endpointId: endpoint.id, trigger: TRIGGER_MANUAL, retried: false },
    ])
  }
  return { status: 202, json: {} }
}

async function recover(call: Call): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.pool, caller, path['app'])
  const endpoint = await endpointOf(deps.pool, application, path['endpoint'])
  const input = parseBody(recoverIn, await call.body())
  const nowMs = Date.now()
  const sinceMs = input.since
  const untilMs = input.until ?? nowMs
  if (untilMs < sinceMs) throw ruleError(['body', '__all__'], 'until must be after since')
  if (sinceMs < nowMs - LIMITS.recoverMaxMs) throw ruleError(['body', '__all__'], 'Cannot recover messages more than 14 days old.')
  const id = await deps.replays.start({
    applicationId: application.id,
    endpointId: endpoint.id,
    since: new Date(sinceMs).toISOString(),
    until: new Date(untilMs).toISOString(),
    status: 'failed',
    retried: false,
  })
  return { status: 202, json: { id, status: 'running', task: 'endpoint.recover', updatedAt: new Date(nowMs).toISOString() } }
}

// Attempts are counted as they are stored: what is pending or on its way has none yet.
async function stats({ deps, caller, path, query }: Call): Promise<Reply> {
  const application = await applicationOf(deps.pool, caller, path['app'])
  const endpoint = await endpointOf(deps.pool, application, path['endpoint'])
  const untilMs = readTime(query, 'until') ?? Date.now()
  const sinceMs = readTime(query, 'since') ?? untilMs - 28 * DAY_MS
  if (sinceMs > untilMs) throw new ApiError('invalid_range', 'until must be after since')
  if (untilMs - sinceMs > LIMITS.statsMaxMs) throw new ApiError('invalid_range', 'Statistics reach over at most 28 days')
  const counts = await countAttempts(deps.pool, endpoint.id, lowestIdAt('atmpt', sinceMs), lowestIdAt('atmpt', untilMs + 4))
  return {
    status: 200,
    json: { success: counts.get(STATUS_SUCCESS) ?? 0, fail: counts.get(STATUS_FAIL) ?? 0, pending: 0, sending: 0, canceled: 0 },
  }
}

/**
 * Sends an example of an event type to this endpoint alone, with its whole retry schedule. The message is stored without a
 * route and then put into the outbox for the endpoint: a crash between the two leaves a message that was never answered for.
 */
async function sendExample(call: Call): Promise<Reply> {
  const { deps, caller, path } = call
  requireOrganisation(caller)
  const application = await applicationOf(deps.pool, caller, path['app'])
  const endpoint = await endpointOf(deps.pool, application, path['endpoint'])
  const { eventType: name } = parseBody(eventExampleIn, await call.body())
  const eventType = await findEventType(deps.pool, caller.orgId, name)
  if (eventType === undefined) throw notFound()
  const nowMs = Date.now()
  const expiresAtMs = nowMs + LIMITS.payloadRetentionMaxDays * DAY_MS
  const payload = JSON.stringify(exampleOf(eventType, new Date(nowMs)))
  const message = { id: newId('msg', nowMs), appId: application.id, eventType: name, payload, createdAtMs: nowMs, expiresAtMs }
  await insertUnroutedMessage(deps.pool, message)
  await deps.intake.sendAgain([
    { messageId: message.id, appId: application.id, eventType: name, endpointId: endpoint.id, trigger: TRIGGER_SCHEDULED, retried: true },
  ])
  return { status: 200, json: showMessage({ ...message, eventId: null, channels: null, createdAt: new Date(nowMs) }) }
}

export const resendingRoutes: RouteTable = {
  '/app/:app/msg/:message/endpoint/:endpoint/resend': { post: resend },
  '/app/:app/endpoint/:endpoint/recover': { post: recover },
  '/app/:app/endpoint/:endpoint/stats': { get: stats },
  '/app/:app/endpoint/:endpoint/send-example': { post: sendExample },
}
