import { newId } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import { TRIGGER_MANUAL, TRIGGER_SCHEDULED } from '../../domain/outcome.ts'
import { findEventType } from '../../storage/event-types.ts'
import { hasPayload, insertUnroutedMessage } from '../../storage/history/messages.ts'
import { ApiError, notFound } from '../errors.ts'
import { withBody, type Call, type Reply, type RouteTable } from '../routing.ts'
import { eventExampleIn } from '../schemas/event-type.ts'
import { exampleOf } from '../schemas/example.ts'
import { messageOut, showMessage } from '../schemas/message.ts'
import { emptyResponse } from '../schemas/replies.ts'
import { applicationOf, endpointOf, messageOf } from '../scope.ts'

const DAY_MS = 86_400_000

async function resend({ deps, caller, path }: Call): Promise<Reply> {
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const message = await messageOf(deps.pool, application, path['msg_id'])
  const endpoint = await endpointOf(deps.pool, application, path['endpoint_id'])
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

/**
 * Sends an example of an event type to this endpoint alone, with its whole retry schedule. The message is stored without a
 * route and then put into the outbox for the endpoint: a crash between the two leaves a message that was never answered for.
 */
async function sendExample(call: Call<typeof eventExampleIn>): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const endpoint = await endpointOf(deps.pool, application, path['endpoint_id'])
  const { eventType: name } = await call.body()
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
  '/app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend': {
    post: {
      operationId: 'v1.message-attempt.resend',
      summary: 'Resend Webhook',
      tag: 'Message Attempt',
      description: 'One attempt, whatever the endpoint filters by. A disabled endpoint is skipped.',
      replies: { 202: emptyResponse },
      access: 'application',
      across: { of: 'message' },
      handle: resend,
    },
  },
  '/app/{app_id}/endpoint/{endpoint_id}/send-example': {
    post: withBody({
      operationId: 'v1.endpoint.send-example',
      summary: 'Send Event Type Example Message',
      tag: 'Endpoint',
      body: eventExampleIn,
      replies: { 200: messageOut },
      access: 'organisation',
      across: { of: 'application' },
      handle: sendExample,
    }),
  },
}
