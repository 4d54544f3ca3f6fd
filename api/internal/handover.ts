import { z } from 'zod'
import type { Handover } from '../../domain/handover.ts'
import { LIMITS } from '../../domain/limits.ts'
import { TRIGGER_MANUAL, TRIGGER_SCHEDULED } from '../../domain/outcome.ts'
import { PRIORITIES } from '../../domain/priority.ts'
import { mayHold } from '../../domain/regions.ts'
import { ruleError } from '../errors.ts'
import { internalOperation } from './router.ts'

const id = z.string().regex(/^[0-9A-Za-z_-]{1,64}$/)
const groupId = z.string().regex(/^[0-9A-Za-z_-]{1,64}$/)

const envelope = z.object({
  contentType: z.string().optional(),
  attributes: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])).optional(),
  base64: z.literal(true).optional(),
})

const message = z.object({
  id,
  appId: id,
  eventType: z.string(),
  eventId: z.string().nullable(),
  channels: z.array(z.string()).nullable(),
  payload: z.string(),
  createdAtMs: z.number(),
  expiresAtMs: z.number(),
  deliverAtMs: z.number().nullable(),
  envelope: envelope.nullable(),
  priority: z.enum(PRIORITIES),
  orderingKey: z.string().nullable(),
  traceparent: z.string().nullable(),
  endpointIds: z.array(id).min(1).max(LIMITS.handOverEndpointsMax),
})

const handover = z.object({
  groupId,
  from: z.string(),
  trigger: z.literal([TRIGGER_SCHEDULED, TRIGGER_MANUAL]),
  retried: z.boolean(),
  chosen: z.boolean(),
  messages: z.array(message).min(1).max(LIMITS.groupMaxMessages),
}) satisfies z.ZodType<Handover>

/** `POST /internal/v1/handover`: what another region hands to this one is this region's when it has been answered. */
export const handoverOperation = internalOperation(handover, async ({ deps, regional, caller, body }) => {
  if (body.from !== caller.name) throw ruleError(['body', 'from'], 'The call is of another region than it says')
  return deps.intake.takeOver(body, (zone) => mayHold(regional.regions.own, zone))
})
