import { z } from 'zod'
import { CLOUD_EVENT_FORMATS } from '../../domain/cloud-event.ts'
import { LIMITS } from '../../domain/limits.ts'
import { ORDERINGS } from '../../domain/ordering.ts'
import { PRIORITIES } from '../../domain/priority.ts'
import type { Endpoint, EndpointFields } from '../../storage/endpoints.ts'
import type { Cipher } from '../../storage/cipher.ts'
import { compileFilter, FilterError } from '../../storage/payload-filter.ts'
import { accessFields, accessPatchFields, showAccess, shownAccessFields, sealedAccess } from './endpoint-access.ts'
import { customHeaders } from './headers.ts'
import { CONTROL, eventTypePatterns, isClean, metadata, names, positiveU16, regionName, text, throttleRate, uid } from './names.ts'
import { aliased } from './parse.ts'
import {
  listOf,
  shownId,
  shownInteger,
  shownMetadata,
  shownName,
  shownNames,
  shownPatterns,
  shownRate,
  shownTime,
  shownUrl,
} from './replies.ts'
import { secret } from './secret.ts'
import { url } from './url.ts'

const version = positiveU16('Endpoint versions must be at least one')

/** Seconds before each retry. */
const retrySchedule = z
  .array(
    z
      .number()
      .positive()
      .max(LIMITS.retryDelayMaxMs / 1000),
  )
  .max(LIMITS.retryScheduleMaxSteps)
const timeoutMs = z.number().int().min(100).max(LIMITS.requestTimeoutMaxMs)
const eventTypes = eventTypePatterns(1, LIMITS.eventTypesPerEndpoint)
const channels = names(1, LIMITS.channelsPerEndpoint)

const filter = z
  .string()
  .min(1)
  .superRefine((text, context) => {
    const problem = filterProblem(text)
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
  })
  .meta({
    maxLength: LIMITS.filterMaxChars,
    description: 'CEL expression over `payload`, `eventType` and `channels`: only messages for which it is true are delivered',
    example: 'payload.amount > 100.0',
  })

function filterProblem(text: string): string | undefined {
  if (!isClean(text)) return CONTROL
  try {
    compileFilter(text)
    return undefined
  } catch (error) {
    if (error instanceof FilterError) return error.message
    throw error
  }
}

const format = z.enum(CLOUD_EVENT_FORMATS).meta({ description: 'CloudEvents 1.0 instead of the payload as it is' })
const ordering = z.enum(ORDERINGS)
const priority = z.enum(PRIORITIES)
const circuitBreaker = z.boolean().meta({ description: 'Whether requests are held back while most of them fail' })
const region = regionName.meta({
  description:
    'The region that delivers to it, or `nearest` for the one that connects to it fastest; absent: the region that accepts a message',
})
const batching = z
  .object({
    maxEvents: z.int().min(1).max(LIMITS.batchingMaxEvents),
    lingerMs: z.int().min(0).max(LIMITS.batchingMaxLingerMs),
    maxBytes: z.int().min(LIMITS.batchingMinBytes).max(LIMITS.batchingMaxBytes).default(LIMITS.batchingDefaultBytes),
  })
  .meta({ id: 'EndpointBatching' })

const fields = {
  uid: uid('ep').nullish().default(null),
  url,
  description: text.default(''),
  version: version.default(1),
  disabled: z.boolean().default(false),
  eventTypes: eventTypes.nullish().default(null),
  channels: channels.nullish().default(null),
  throttleRate: throttleRate.nullish().default(null),
  metadata: metadata.default({}).meta({ default: {} }),
  retrySchedule: retrySchedule.nullish().default(null),
  timeoutMs: timeoutMs.nullish().default(null),
  filter: filter.nullish().default(null),
  ordering: ordering.default('none'),
  priority: priority.default('medium'),
  circuitBreaker: circuitBreaker.default(true),
  batching: batching.nullish().default(null),
  format: format.nullish().default(null),
  region: region.nullish().default(null),
  ...accessFields,
}

/** What older clients call the fields. */
const ALIASES = { rateLimit: 'throttleRate', filterTypes: 'eventTypes' } as const

export const endpointUpdate = aliased(ALIASES, z.object(fields)).meta({ id: 'EndpointUpdate' })
export const endpointIn = aliased(ALIASES, z.object({ ...fields, secret: secret.nullish(), headers: customHeaders.nullish() })).meta({
  id: 'EndpointIn',
})
export const endpointPatch = aliased(
  ALIASES,
  z.object({
    uid: uid('ep').nullable().optional(),
    url: url.optional(),
    description: text.optional(),
    version: version.optional(),
    disabled: z.boolean().optional(),
    eventTypes: eventTypes.nullable().optional(),
    channels: channels.nullable().optional(),
    throttleRate: throttleRate.nullable().optional(),
    metadata: metadata.optional(),
    retrySchedule: retrySchedule.nullable().optional(),
    timeoutMs: timeoutMs.nullable().optional(),
    filter: filter.nullable().optional(),
    ordering: ordering.optional(),
    priority: priority.optional(),
    circuitBreaker: circuitBreaker.optional(),
    batching: batching.nullable().optional(),
    format: format.nullable().optional(),
    region: region.nullable().optional(),
    ...accessPatchFields,
  }),
).meta({ id: 'EndpointPatch' })

/** The fields that an endpoint shows both by itself and as a message's destination. */
export const destinationFields = {
  id: shownId('ep'),
  uid: shownName.nullable(),
  url: shownUrl,
  description: z.string(),
  version: shownInteger('uint16'),
  disabled: z.boolean().meta({ default: false }),
  eventTypes: shownPatterns.nullable(),
  filterTypes: shownPatterns.nullable(),
  channels: shownNames.max(LIMITS.channelsPerEndpoint).nullable(),
  throttleRate: shownRate.nullable(),
  rateLimit: shownRate.nullable(),
  createdAt: shownTime,
  updatedAt: shownTime,
}

export const endpointOut = z
  .object({
    ...destinationFields,
    metadata: shownMetadata,
    retrySchedule: z.array(z.number()).optional(),
    timeoutMs: shownInteger('int64').optional(),
    filter: z.string().nullable(),
    ordering,
    priority,
    circuitBreaker,
    batching: batching.nullable(),
    format: format.nullable(),
    region: regionName.optional(),
    ...shownAccessFields,
  })
  .meta({ id: 'EndpointOut' })
export const endpointList = listOf('EndpointOut', endpointOut)

/** A schedule comes in seconds and is kept in milliseconds; private keys and client secrets are kept encrypted. */
export function endpointFields(input: z.output<typeof endpointUpdate>, cipher: Cipher): EndpointFields {
  const { retrySchedule: scheduleS, ...rest } = input
  return {
    ...rest,
    ...sealedAccess(input, cipher),
    retryScheduleMs: scheduleS === null ? null : scheduleS.map((seconds) => Math.round(seconds * 1000)),
  }
}

/** The endpoint with a patch laid over it. */
export function patchedEndpoint(endpoint: Endpoint, patch: z.output<typeof endpointPatch>, cipher: Cipher): EndpointFields {
  const { retrySchedule: scheduleS, mtls, oauth2, ...rest } = patch
  const set = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined)) as Partial<EndpointFields>
  const retryScheduleMs =
    scheduleS === undefined ? endpoint.retryScheduleMs : (scheduleS?.map((seconds) => Math.round(seconds * 1000)) ?? null)
  const sealed = sealedAccess({ mtls: mtls ?? null, oauth2: oauth2 ?? null }, cipher)
  return {
    ...endpoint,
    ...set,
    retryScheduleMs,
    mtls: mtls === undefined ? endpoint.mtls : sealed.mtls,
    oauth2: oauth2 === undefined ? endpoint.oauth2 : sealed.oauth2,
  }
}

export function showDestination(endpoint: Endpoint) {
  return {
    id: endpoint.id,
    uid: endpoint.uid,
    url: endpoint.url,
    description: endpoint.description,
    version: endpoint.version,
    disabled: endpoint.disabled,
    eventTypes: endpoint.eventTypes,
    filterTypes: endpoint.eventTypes,
    channels: endpoint.channels,
    throttleRate: endpoint.throttleRate,
    rateLimit: endpoint.throttleRate,
    createdAt: endpoint.createdAt.toISOString(),
    updatedAt: endpoint.updatedAt.toISOString(),
  }
}

export function showEndpoint(endpoint: Endpoint) {
  return {
    ...showDestination(endpoint),
    metadata: endpoint.metadata,
    ...(endpoint.retryScheduleMs === null ? {} : { retrySchedule: endpoint.retryScheduleMs.map((ms) => ms / 1000) }),
    ...(endpoint.timeoutMs === null ? {} : { timeoutMs: endpoint.timeoutMs }),
    filter: endpoint.filter,
    ordering: endpoint.ordering,
    priority: endpoint.priority,
    circuitBreaker: endpoint.circuitBreaker,
    batching: endpoint.batching,
    format: endpoint.format,
    ...(endpoint.region === null ? {} : { region: endpoint.region }),
    ...showAccess(endpoint),
  }
}
