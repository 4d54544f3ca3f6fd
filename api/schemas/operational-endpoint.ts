import { z } from 'zod'
import { OPERATIONAL_EVENT_TYPES } from '../../domain/operational.ts'
import { endpointIn, endpointUpdate } from './endpoint.ts'
import { customHeaders } from './headers.ts'
import { metadata, text, throttleRate, uid } from './names.ts'
import { listOf, shownId, shownMetadata, shownName, shownRate, shownTime, shownUrl } from './replies.ts'
import { secret } from './secret.ts'
import { url } from './url.ts'

const eventTypes = z
  .array(z.enum(OPERATIONAL_EVENT_TYPES))
  .min(1)
  .nullish()
  .default(null)
  .meta({ description: 'Absent or null: all of them' })

const fields = {
  url,
  description: text.default(''),
  throttleRate: throttleRate.nullish().default(null),
  uid: uid('ep').nullish().default(null),
  disabled: z.boolean().default(false),
  eventTypes,
  metadata: metadata.default({}),
}

export const operationalEndpointUpdate = z.object(fields).meta({ id: 'OperationalWebhookEndpointUpdate' })
export const operationalEndpointIn = z
  .object({ ...fields, secret: secret.nullish(), headers: customHeaders.nullish() })
  .meta({ id: 'OperationalWebhookEndpointIn' })

export const operationalEndpointOut = z
  .object({
    id: shownId('ep'),
    url: shownUrl,
    description: z.string(),
    throttleRate: shownRate.nullable(),
    uid: shownName.nullable(),
    disabled: z.boolean(),
    eventTypes: z.array(z.enum(OPERATIONAL_EVENT_TYPES)).nullable(),
    createdAt: shownTime,
    updatedAt: shownTime,
    metadata: shownMetadata,
  })
  .meta({ id: 'OperationalWebhookEndpointOut' })
export const operationalEndpointList = listOf('OperationalWebhookEndpointOut', operationalEndpointOut)

/** What an ordinary endpoint has besides takes its default. */
export const toEndpointIn = (input: z.output<typeof operationalEndpointIn>) => endpointIn.parse(input)
export const toEndpointUpdate = (input: z.output<typeof operationalEndpointUpdate>) => endpointUpdate.parse(input)
