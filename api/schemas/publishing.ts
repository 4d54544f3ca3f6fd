import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'
import type { Cancelled } from '../../storage/cancelling.ts'
import { messageIn, messageOut } from './message.ts'
import { metadata, name, names } from './names.ts'
import { shownId } from './replies.ts'
import { time } from './time.ts'

export const batchIn = z.object({ messages: z.array(messageIn).min(1).max(LIMITS.messagesPerBatch) }).meta({ id: 'MessageBatchIn' })
export const batchOut = z
  .object({ data: z.array(messageOut).meta({ description: 'In the order of the request' }) })
  .meta({ id: 'MessageBatchOut' })

export const precheckIn = z
  .object({ eventType: name, channels: names(1, LIMITS.channelsPerMessage).nullish() })
  .meta({ id: 'MessagePrecheckIn' })
export const precheckOut = z.object({ active: z.boolean() }).meta({ id: 'MessagePrecheckOut' })

const idList = z.array(z.string()).min(1).max(LIMITS.cancelMaxPerRequest)

export const cancelIn = z
  .object({
    msgIds: idList.nullish(),
    eventTypes: names(1, LIMITS.eventTypesPerEndpoint).nullish(),
    channel: name.nullish(),
    before: time.nullish(),
    after: time.nullish(),
  })
  .refine(
    (input) => Object.values(input).some((value) => value !== null && value !== undefined),
    'Name the messages, or at least one of eventTypes, channel, before and after',
  )
  .refine(
    ({ msgIds, ...filters }) => !msgIds || Object.values(filters).every((value) => value === null || value === undefined),
    'Name messages or filter them, not both',
  )
  .meta({ id: 'MessageCancelIn' })

const CANCEL_RESULTS = ['canceled', 'unchanged', 'not_found'] as const

export const cancelOut = z
  .object({
    data: z.array(
      z
        .object({
          msgId: shownId('msg'),
          result: z.enum(CANCEL_RESULTS).meta({ description: '`unchanged`: nothing of it waited. A request under way is not repeated' }),
          scheduled: z.boolean().meta({ description: 'Whether it waited for its `deliverAt`: nothing of it was sent' }),
          deliveries: z.int().min(0).meta({ description: 'Failed deliveries whose retries do not come' }),
        })
        .meta({ id: 'MessageCanceledOut' }),
    ),
    done: z.boolean().meta({ description: 'False where the filters take more messages than one request cancels' }),
  })
  .meta({ id: 'MessageCancelOut' })

export function showCancelled({ messageId, unscheduled, deliveries }: Cancelled) {
  return { msgId: messageId, result: unscheduled || deliveries > 0 ? 'canceled' : 'unchanged', scheduled: unscheduled, deliveries }
}

export const broadcastIn = z
  .object({
    message: messageIn,
    applications: z.array(z.string()).min(1).max(LIMITS.endpointsPerApplication).nullish().meta({
      description: 'Ids or uids. Without it: every application of the organisation',
    }),
    metadata: metadata.optional().meta({ description: 'Only applications whose metadata has all of these' }),
  })
  .meta({ id: 'MessageBroadcastIn' })
