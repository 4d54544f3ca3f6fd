import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'
import { DEFAULT_PRIORITY, PRIORITIES } from '../../domain/priority.ts'
import type { Regions } from '../../domain/regions.ts'
import type { Handing } from '../../storage/handed-over.ts'
import type { Attempt } from '../../storage/history/attempts.ts'
import type { DeadLetter } from '../../storage/history/dead-letters.ts'
import type { DeliveryState } from '../../storage/history/destinations.ts'
import type { StoredMessage } from '../../storage/history/messages.ts'
import { STATUS_FAIL, STATUS_PENDING, STATUS_SENDING, STATUS_SUCCESS, TRIGGER_MANUAL, TRIGGER_SCHEDULED } from '../../domain/outcome.ts'
import { parseKeepingNumbers } from '../json.ts'
import { valueOf, type WrittenJson } from '../written-json.ts'
import { applicationIn } from './application.ts'
import { destinationFields } from './endpoint.ts'
import { mediaType, name, names, SHAPE, uid } from './names.ts'
import { aliased } from './parse.ts'
import { listOf, shownId, shownInteger, shownName, shownNames, shownTime, shownUrl } from './replies.ts'
import { time } from './time.ts'

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value)

/** What older clients call the fields. */
const ALIASES = { data: 'payload' } as const

const deliverAt = time.refine(
  (atMs) => atMs <= Date.now() + LIMITS.deliverAtMaxMs,
  `Messages are kept for delivery ${LIMITS.deliverAtMaxMs / 86_400_000} days at most`,
)

export const messageIn = aliased(
  ALIASES,
  z.object({
    eventType: name,
    payload: z
      .custom<Record<string, unknown> | WrittenJson>((payload) => isObject(valueOf(payload)), {
        params: SHAPE,
        error: 'The payload must be an object',
      })
      .meta({ type: 'object', example: { email: 'test@example.com', username: 'test_user' } }),
    eventId: uid('msg').nullish().default(null),
    channels: names(1, LIMITS.channelsPerMessage).nullish().default(null),
    payloadRetentionPeriod: z
      .number()
      .refine(Number.isInteger, { params: SHAPE, error: 'expected i64', abort: true })
      .refine(
        (days) => days >= LIMITS.payloadRetentionMinDays && days <= LIMITS.payloadRetentionMaxDays,
        `The retention period is ${LIMITS.payloadRetentionMinDays} to ${LIMITS.payloadRetentionMaxDays} days`,
      )
      .meta({ type: 'integer', format: 'int64', minimum: LIMITS.payloadRetentionMinDays, maximum: LIMITS.payloadRetentionMaxDays })
      .nullish()
      .meta({ default: LIMITS.payloadRetentionMaxDays, description: 'Days that the payload is kept' }),
    transformationsParams: z
      .looseObject({
        rawPayload: z
          .string()
          .refine((text) => !text.includes('\0'), 'NUL is not allowed')
          .nullish(),
        headers: z
          .looseObject({ 'content-type': mediaType.nullish().meta({ description: 'Of the raw payload, where that is not JSON' }) })
          .nullish(),
      })
      .nullish(),
    application: applicationIn.nullish(),
    orderingKey: z
      .string()
      .min(1)
      .max(LIMITS.orderingKeyMaxChars)
      .refine((key) => !key.includes('\0'), 'NUL is not allowed')
      .nullish()
      .meta({ description: 'Messages with the same key reach an endpoint with `fifo-by-key` in order' }),
    priority: z
      .enum(PRIORITIES)
      .nullish()
      .meta({ default: DEFAULT_PRIORITY, description: 'Its share of what can be done, not a strict order' }),
    deliverAt: deliverAt.nullish().meta({ description: 'When to deliver: 30 days ahead at most. What has passed is delivered at once' }),
  }),
).meta({ id: 'MessageIn' })

const messageFields = {
  id: shownId('msg'),
  eventType: shownName,
  eventId: shownName.nullable(),
  channels: shownNames.max(LIMITS.channelsPerMessage).nullable(),
  payload: z.record(z.string(), z.unknown()),
  timestamp: shownTime,
  deliverAt: shownTime.optional().meta({ description: 'When it is to be delivered, where that is not at once' }),
  orderingKey: z.string().optional(),
  priority: z
    .enum(PRIORITIES)
    .optional()
    .meta({ description: `Where it is not \`${DEFAULT_PRIORITY}\`` }),
}

export const messageOut = z
  .object({
    ...messageFields,
    workflowId: z
      .string()
      .optional()
      .meta({ description: 'The Temporal workflow that delivers the message: a fan-out, or the mailbox of an endpoint that has a queue' }),
  })
  .meta({ id: 'MessageOut' })
export const messageList = listOf('MessageOut', messageOut)

const messageStatus = z.literal([STATUS_SUCCESS, STATUS_PENDING, STATUS_FAIL, STATUS_SENDING]).meta({
  id: 'MessageStatus',
  type: 'integer',
  description: 'The sending status of the message:\n- Success = 0\n- Pending = 1\n- Fail = 2\n- Sending = 3',
})
const messageStatusText = z.enum(['success', 'pending', 'fail', 'sending']).meta({ id: 'MessageStatusText' })
const triggerType = z.literal([TRIGGER_SCHEDULED, TRIGGER_MANUAL]).meta({
  id: 'MessageAttemptTriggerType',
  type: 'integer',
  description: 'The reason an attempt was made:\n- Scheduled = 0\n- Manual = 1',
})

export const attemptOut = z
  .object({
    id: shownId('atmpt'),
    msgId: shownId('msg'),
    endpointId: shownId('ep'),
    url: shownUrl,
    status: messageStatus,
    statusText: messageStatusText,
    response: z.string(),
    responseStatusCode: shownInteger('int16'),
    responseDurationMs: shownInteger('int64'),
    triggerType,
    timestamp: shownTime,
    msg: messageOut.optional(),
  })
  .meta({ id: 'MessageAttemptOut' })
const handing = z
  .object({
    region: shownName,
    apiUrl: shownUrl.nullable().meta({ description: 'Of the API that lists the attempts; null where the region is not known any more' }),
    endpointIds: z.array(shownId('ep')),
    handedAt: shownTime.nullable().meta({ description: 'Null as long as it waits for the region' }),
  })
  .meta({ id: 'HandedOverOut' })
export const attemptList = listOf('MessageAttemptOut', attemptOut, {
  handedOver: z
    .array(handing)
    .optional()
    .meta({ description: 'Of a message: its deliveries that other regions attempt. Their attempts are listed there' }),
})

const stateFields = { status: messageStatus, statusText: messageStatusText, nextAttempt: shownTime.nullable() }
export const endpointMessageList = listOf(
  'EndpointMessageOut',
  z.object({ ...messageFields, ...stateFields }).meta({ id: 'EndpointMessageOut' }),
)
export const messageEndpointList = listOf(
  'MessageEndpointOut',
  z.object({ ...destinationFields, ...stateFields }).meta({ id: 'MessageEndpointOut' }),
)

export const deadLetterList = listOf(
  'DeadLetterOut',
  z
    .object({
      msgId: shownId('msg'),
      endpointId: shownId('ep'),
      eventType: shownName,
      eventId: shownName.nullable(),
      attempts: shownInteger('int64'),
      responseStatusCode: shownInteger('int16'),
      redrivable: z.boolean().meta({ description: 'Whether the message still has its payload and the endpoint takes deliveries' }),
      timestamp: shownTime,
    })
    .meta({ id: 'DeadLetterOut' }),
)

const EXPIRED = '{"expired":true}'

/** The `payload` of an answer, as JSON text: always an object. */
export function payloadJson(payload: string | null | undefined): string {
  if (payload === undefined) return '{}'
  if (payload === null) return EXPIRED
  try {
    if (isObject(JSON.parse(payload))) return payload
  } catch {
    // A raw payload need not be JSON.
  }
  return JSON.stringify({ rawPayload: payload })
}

/** What the reference does not have is shown where it was asked for. */
function showExtras({ deliverAt: time, orderingKey, priority }: StoredMessage) {
  return {
    deliverAt: time?.toISOString(),
    orderingKey: orderingKey ?? undefined,
    priority: priority === DEFAULT_PRIORITY ? undefined : priority,
  }
}

/**
 * A message as JSON text, its payload copied as it is rather than parsed and written again.
 * @param json of the payload, an object
 */
export function messageJson(message: StoredMessage, json: string, extra: Readonly<Record<string, unknown>> = {}): string {
  const rest = JSON.stringify({
    id: message.id,
    eventType: message.eventType,
    eventId: message.eventId,
    channels: message.channels,
    timestamp: message.createdAt.toISOString(),
    ...showExtras(message),
    ...extra,
  })
  return `{"payload":${json},${rest.slice(1)}`
}

export function showMessage(message: StoredMessage) {
  return {
    id: message.id,
    eventType: message.eventType,
    eventId: message.eventId,
    channels: message.channels,
    payload: parseKeepingNumbers(payloadJson(message.payload)) as Record<string, unknown>,
    timestamp: message.createdAt.toISOString(),
    ...showExtras(message),
  }
}

const STATUS_TEXT: Readonly<Record<number, string>> = {
  [STATUS_SUCCESS]: 'success',
  [STATUS_PENDING]: 'pending',
  [STATUS_FAIL]: 'fail',
  [STATUS_SENDING]: 'sending',
}

export function showAttempt(attempt: Attempt, options: { withContent: boolean } = { withContent: true }) {
  return {
    id: attempt.id,
    msgId: attempt.messageId,
    endpointId: attempt.endpointId,
    url: attempt.url,
    status: attempt.status,
    statusText: STATUS_TEXT[attempt.status],
    response: options.withContent ? attempt.responseBody : '',
    responseStatusCode: attempt.responseCode,
    responseDurationMs: attempt.durationMs,
    triggerType: attempt.trigger,
    timestamp: attempt.createdAt.toISOString(),
  }
}

/** Where attempts are that another region makes. */
export function showHanding({ region, endpointIds, handedAt }: Handing, regions: Regions) {
  const apiUrl = regions.has(region) ? regions.get(region).apiUrl : null
  return { region, apiUrl, endpointIds, handedAt: handedAt?.toISOString() ?? null }
}

/** A delivery's state: `sending` where a failed one has another attempt due. */
export function showState(state: DeliveryState, options: { derived: boolean }) {
  const status = options.derived && state.nextAttemptAt !== null ? STATUS_SENDING : state.status
  return { status, statusText: STATUS_TEXT[status], nextAttempt: state.nextAttemptAt?.toISOString() ?? null }
}

export function showDeadLetter(letter: DeadLetter) {
  return {
    msgId: letter.messageId,
    endpointId: letter.endpointId,
    eventType: letter.eventType,
    eventId: letter.eventId,
    attempts: letter.attempts,
    responseStatusCode: letter.responseCode,
    redrivable: letter.redrivable,
    timestamp: letter.diedAt.toISOString(),
  }
}

export const redriveIn = z
  .object({
    endpointId: name.nullish(),
    messageIds: z.array(name).max(LIMITS.redriveMaxPerRequest).nullish(),
  })
  .meta({ id: 'RedriveIn' })
export const redriveOut = z
  .object({
    redriven: shownInteger('int64'),
    done: z.boolean().meta({ description: 'False where more dead letters are left than one request puts back' }),
    taskId: shownId('qtask').optional().meta({ description: 'Where more are left: the background task that puts back the rest' }),
  })
  .meta({ id: 'RedriveOut' })
