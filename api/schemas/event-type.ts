import { z } from 'zod'
import type { EventType } from '../../storage/event-types.ts'
import { CONTROL, isClean, name, text } from './names.ts'
import { listOf, shownName, shownTime } from './replies.ts'

/** Whether every text in a JSON value is one that can be kept. */
function isCleanJson(value: unknown): boolean {
  if (typeof value === 'string') return isClean(value)
  if (typeof value !== 'object' || value === null) return true
  return Object.entries(value).every(([key, item]) => isClean(key) && isCleanJson(item))
}

const schemas = z
  .record(z.string(), z.record(z.string(), z.unknown()))
  .refine(isCleanJson, CONTROL)
  .meta({ description: 'JSON schemas of the payload, by version' })

const fields = {
  description: text,
  archived: z.boolean().default(false),
  deprecated: z.boolean().default(false),
  featureFlag: name.nullish().default(null),
  groupName: name.nullish().default(null),
  schemas: schemas.nullish().default(null),
}

/**
 * Clients of today write a list of feature flags where the Svix server has one flag.
 * A list of one is that flag; longer ones are left to the schema, which refuses them.
 */
function withFeatureFlag(body: unknown): unknown {
  if (typeof body !== 'object' || body === null || !('featureFlags' in body) || 'featureFlag' in body) return body
  const { featureFlags } = body
  if (!Array.isArray(featureFlags)) return body
  return { ...body, featureFlag: featureFlags.length > 1 ? featureFlags : ((featureFlags[0] as unknown) ?? null) }
}

export const eventTypeUpdate = z.preprocess(withFeatureFlag, z.object(fields)).meta({ id: 'EventTypeUpdate' })
export const eventTypeIn = z.preprocess(withFeatureFlag, z.object({ name, ...fields })).meta({ id: 'EventTypeIn' })
export const eventTypePatch = z
  .preprocess(
    withFeatureFlag,
    z.object({
      description: text.optional(),
      archived: z.boolean().optional(),
      deprecated: z.boolean().optional(),
      featureFlag: name.nullable().optional(),
      groupName: name.nullable().optional(),
      schemas: schemas.nullable().optional(),
    }),
  )
  .meta({ id: 'EventTypePatch' })

/** The part of the path that a PUT creates an event type with. */
export const eventTypeName = z.object({ name })

export const eventTypeOut = z
  .object({
    name: shownName,
    description: z.string(),
    archived: z.boolean().meta({ default: false }),
    deprecated: z.boolean(),
    featureFlag: shownName.nullable(),
    featureFlags: z.array(shownName),
    groupName: shownName.nullable(),
    schemas: z.record(z.string(), z.record(z.string(), z.unknown())).nullable(),
    createdAt: shownTime,
    updatedAt: shownTime,
  })
  .meta({ id: 'EventTypeOut' })
export const eventTypeList = listOf('EventTypeOut', eventTypeOut)

/** The name of the event type to send an example of. */
export const eventExampleIn = z.object({ eventType: name }).meta({ id: 'EventExampleIn' })

export function showEventType(eventType: EventType, options: { withContent: boolean } = { withContent: true }) {
  return {
    name: eventType.name,
    description: eventType.description,
    archived: eventType.archived,
    deprecated: eventType.deprecated,
    featureFlag: eventType.featureFlag,
    featureFlags: eventType.featureFlag === null ? [] : [eventType.featureFlag],
    groupName: eventType.groupName,
    schemas: options.withContent ? eventType.schemas : null,
    createdAt: eventType.createdAt.toISOString(),
    updatedAt: eventType.updatedAt.toISOString(),
  }
}
