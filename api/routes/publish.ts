import type { Request, Response } from 'express'
import type { z } from 'zod'
import type { Envelope } from '../../domain/cloud-event.ts'
import { newId } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { NewMessage } from '../../domain/message.ts'
import { DEFAULT_PRIORITY } from '../../domain/priority.ts'
import { isTraceparent } from '../../domain/trace.ts'
import type { CachedApplication } from '../../storage/config-cache.ts'
import type { StoredMessage } from '../../storage/history/messages.ts'
import type { Authenticate, Caller } from '../auth.ts'
import { parseMessages, readBody } from '../body.ts'
import { isCloudEvent, readCloudEvent, type PublishedCloudEvent } from '../cloud-events.ts'
import type { ApiDependencies } from '../dependencies.ts'
import { ElsewhereError } from '../elsewhere.ts'
import { notFound } from '../errors.ts'
import { tellPosition } from '../history.ts'
import { idempotencyKeyOf, type Idempotency } from '../idempotency.ts'
import { flag } from '../parameters.ts'
import { readFlag } from '../query.ts'
import { sendText } from '../reply.ts'
import type { Residency } from '../residency.ts'
import type { Operation } from '../routing.ts'
import { messageIn, messageJson, messageOut, payloadJson } from '../schemas/message.ts'
import { parseBody } from '../schemas/parse.ts'
import { cachedApplicationOf, requireOrganisation } from '../scope.ts'
import { textOf } from '../written-json.ts'
import { findOrCreateApplication } from './applications.ts'

const DAY_MS = 86_400_000

/** Whether the answer repeats the payload; read without building a query object for the common case of no query. */
function wantsContent(url: string): boolean {
  const start = url.indexOf('?')
  return start < 0 || readFlag(new URLSearchParams(url.slice(start + 1)), 'with_content', true)
}

interface PublishParts {
  readonly authenticate: Authenticate
  readonly idempotency: Idempotency
  readonly residency: Residency | undefined
}

/**
 * `POST /app/{app}/msg`: the hot path. Its only I/O is the intake's group commit; tokens and applications come from
 * memory, and the payload is copied as it was written. 202 follows the commit.
 */
export function createPublish(deps: ApiDependencies, { authenticate, idempotency, residency }: PublishParts) {
  const parts = { ...deps, residency }
  return async (request: Request<{ app_id: string }>, response: Response): Promise<void> => {
    const known = authenticate(request, response)
    const caller = known instanceof Promise ? await known : known
    requireOrganisation(caller)
    const withContent = wantsContent(request.url)
    const idempotencyKey = idempotencyKeyOf(request)
    const body = readBody(request)
    const publish = () => publishOne(parts, { caller, request, body }, { withContent, idempotencyKey })
    try {
      const show = (first: StoredMessage) => messageJson(first, withContent ? payloadJson(first.payload) : '{}')
      const answer = idempotencyKey === undefined ? await publish() : await idempotency.publishOnce(idempotencyKey, publish, show)
      if (deps.history.position !== undefined) await tellPosition(deps.history, request, response)
      sendText(response, 202, answer)
    } catch (error) {
      if (!(error instanceof ElsewhereError) || residency === undefined) throw error
      await residency.passOn(request, response, error.zones, await body)
    }
  }
}

interface Published {
  readonly caller: Caller
  readonly request: Request<{ app_id: string }>
  readonly body: Promise<Buffer>
}

/**
 * @returns the answer, once the message is committed
 * @throws {ElsewhereError} before anything is stored
 */
async function publishOne(
  deps: ApiDependencies & Pick<PublishParts, 'residency'>,
  { caller, request, body }: Published,
  { withContent, idempotencyKey }: { withContent: boolean; idempotencyKey: string | undefined },
): Promise<string> {
  const appName = request.params.app_id
  const [application, raw] = await Promise.all([cachedApplicationOf(deps, caller, appName), body])
  const zone = deps.residency === undefined ? undefined : await zoneElsewhere(deps.residency, caller, appName, application)
  if (zone !== undefined) throw new ElsewhereError([zone])
  const event = isCloudEvent(request.headers) ? readCloudEvent(request.headers, raw) : undefined
  const input = parseBody(messageIn, event === undefined ? parseMessages(raw) : event.body)
  if (application === undefined && !input.application) throw notFound()
  const appId = application?.id ?? (await findOrCreateApplication({ deps, caller }, appName, input.application)).id
  const message = newMessageOf(input, appId, { idempotencyKey, event, traceparent: traceparentOf(deps, request) })
  await deps.intake.accept(message)
  return acceptedJson(message, input, withContent)
}

/** The other zone that the message is for; undefined: it is for here. Of two applications of one uid the one with a zone gets it. */
async function zoneElsewhere(
  residency: Residency,
  caller: Caller,
  name: string,
  known: CachedApplication | undefined,
): Promise<string | undefined> {
  if (known === undefined) return residency.zoneOf(caller, name)
  return known.id === name || known.residency !== null ? undefined : residency.zoneOfNamesake(caller, name)
}

type MessageIn = z.output<typeof messageIn>

/** What of a request is not in its body. */
interface MessageExtras {
  readonly idempotencyKey?: string | undefined
  readonly event?: PublishedCloudEvent | undefined
  readonly traceparent?: string | undefined
}

/** The publisher's trace context, where traces are kept. */
export function traceparentOf({ config }: Pick<ApiDependencies, 'config'>, { headers }: Pick<Request, 'headers'>): string | undefined {
  const { traceparent } = headers
  return config.tracing !== undefined && typeof traceparent === 'string' && isTraceparent(traceparent) ? traceparent : undefined
}

/** The message that is stored. What is scheduled keeps its payload as long after its time as others after their acceptance. */
export function newMessageOf(input: MessageIn, appId: string, more: MessageExtras = {}): NewMessage {
  const nowMs = Date.now()
  const deliverAtMs = input.deliverAt !== null && input.deliverAt !== undefined && input.deliverAt > nowMs ? input.deliverAt : undefined
  return {
    id: newId('msg', nowMs),
    appId,
    eventType: input.eventType,
    eventId: input.eventId ?? null,
    channels: input.channels ?? null,
    payload: input.transformationsParams?.rawPayload ?? textOf(input.payload),
    createdAtMs: nowMs,
    expiresAtMs: (deliverAtMs ?? nowMs) + (input.payloadRetentionPeriod ?? LIMITS.payloadRetentionMaxDays) * DAY_MS,
    idempotencyKey: more.idempotencyKey,
    deliverAtMs,
    orderingKey: input.orderingKey ?? undefined,
    // What is of the usual priority is stored without saying so.
    priority: input.priority === null || input.priority === DEFAULT_PRIORITY ? undefined : input.priority,
    envelope: envelopeOf(input, more.event),
    traceparent: more.traceparent,
  }
}

function envelopeOf({ transformationsParams: raw }: MessageIn, event: PublishedCloudEvent | undefined): Envelope | undefined {
  const contentType = typeof raw?.rawPayload === 'string' ? (raw.headers?.['content-type'] ?? undefined) : undefined
  if (contentType === undefined && event === undefined) return undefined
  return { contentType, attributes: event?.attributes, base64: event?.base64 }
}

/** The answer for an accepted message, as JSON text. */
export function acceptedJson(message: NewMessage, input: MessageIn, withContent: boolean): string {
  const isRaw = typeof input.transformationsParams?.rawPayload === 'string'
  const shown = !withContent ? '{}' : isRaw ? payloadJson(message.payload) : message.payload
  const deliverAt = message.deliverAtMs === undefined ? undefined : new Date(message.deliverAtMs)
  return messageJson({ ...message, createdAt: new Date(message.createdAtMs), deliverAt }, shown)
}

/** How publishing is documented; the table leaves serving it to `createPublish`. */
export const publishing: Operation = {
  operationId: 'v1.message.create',
  summary: 'Create Message',
  tag: 'Message',
  description:
    'Accepts an event for delivery to every endpoint that takes it. 202 follows its commit: from then on it is delivered or dead-lettered. CloudEvents 1.0 are taken too, in structured and in binary mode.',
  query: { with_content: flag('When `true` message payloads are included in the response', true) },
  body: messageIn,
  replies: { 202: messageOut },
  access: 'organisation',
  handle: null,
}
