import { isUtf8 } from 'node:buffer'
import type { IncomingHttpHeaders } from 'node:http'
import { z } from 'zod'
import type { CloudEventAttributes } from '../domain/cloud-event.ts'
import { LIMITS } from '../domain/limits.ts'
import { parseJson, parseMessages } from './body.ts'
import { ValidationError } from './errors.ts'
import { CONTROL, isClean, mediaType } from './schemas/names.ts'
import { parseBody } from './schemas/parse.ts'
import { textOf, valueOf, WrittenJson } from './written-json.ts'

/** An event that was published as a CloudEvent: the body of an ordinary publish, and the attributes that this has no place for. */
export interface PublishedCloudEvent {
  readonly body: unknown
  readonly attributes: CloudEventAttributes
  /** The payload is binary, and its text base64. */
  readonly base64?: true | undefined
}

const STRUCTURED = /^application\/cloudevents\+json\b/i

/** Whether the request carries a CloudEvent, in structured or in binary mode. */
export function isCloudEvent(headers: IncomingHttpHeaders): boolean {
  return headers['ce-specversion'] !== undefined || (headers['content-type'] !== undefined && STRUCTURED.test(headers['content-type']))
}

const cloudEvent = z
  .object({
    specversion: z.literal('1.0'),
    id: z.string().min(1),
    source: z.string().min(1).max(LIMITS.urlMaxChars),
    type: z.string().min(1),
    datacontenttype: mediaType.optional(),
    data: z.unknown().optional(),
    data_base64: z.base64().optional(),
  })
  .catchall(z.unknown())
  .refine((event) => event.data === undefined || event.data_base64 === undefined, {
    message: 'An event has data or data_base64, not both',
    path: ['data_base64'],
  })

/** Attributes with names of their own in a message. */
const KNOWN = new Set(['specversion', 'type', 'datacontenttype', 'data', 'data_base64'])

/**
 * Reads a CloudEvent: `type` becomes the event type, `id` the event id, `data` the payload. What is not an object of JSON is
 * a raw payload with its content type, what is not text a binary one.
 * @throws {ValidationError}
 */
export function readCloudEvent(headers: IncomingHttpHeaders, body: Buffer): PublishedCloudEvent {
  const isStructured = STRUCTURED.test(headers['content-type'] ?? '')
  const event = parseBody(cloudEvent, isStructured ? parseMessages(body) : fromHeaders(headers, body))
  const contentType = event.datacontenttype ?? 'application/json'
  const attributes = Object.fromEntries(
    Object.entries(event)
      .map(([name, value]) => [name, valueOf(value)] as const)
      .filter((entry): entry is [string, string | number | boolean] => isAttribute(...entry)),
  )
  if (Buffer.byteLength(JSON.stringify(attributes)) > LIMITS.metadataMaxBytes)
    throw refuse(`Attributes take ${LIMITS.metadataMaxBytes} bytes at most`)
  const unclean = Object.entries(attributes).find(([, value]) => typeof value === 'string' && !isClean(value))
  if (unclean !== undefined) throw new ValidationError([{ loc: ['body', unclean[0]], msg: CONTROL, type: 'value_error' }])
  const named = { eventType: event.type, eventId: event.id }
  if (event.data_base64 !== undefined)
    return { attributes, base64: true, body: { ...named, ...rawPayload(event.data_base64, contentType) } }
  return { attributes, body: { ...named, ...payloadOf(event.data, contentType) } }
}

function isAttribute(name: string, value: unknown): boolean {
  const isScalar = typeof value === 'string' || typeof value === 'boolean' || Number.isInteger(value)
  return isScalar && !KNOWN.has(name) && /^[a-z0-9]{1,20}$/.test(name)
}

function payloadOf(written: unknown, contentType: string): object {
  const data = valueOf(written)
  if (/^application\/json\b/i.test(contentType) && typeof data === 'object' && data !== null && !Array.isArray(data))
    return { payload: written }
  return rawPayload(typeof data === 'string' && !/\bjson\b/i.test(contentType) ? data : textOf(written ?? null), contentType)
}

function rawPayload(text: string, contentType: string): object {
  return { payload: {}, transformationsParams: { rawPayload: text, headers: { 'content-type': contentType } } }
}

/** The event of a request in binary mode, as it would be in structured mode. */
function fromHeaders(headers: IncomingHttpHeaders, body: Buffer): object {
  const attributes = Object.entries(headers).flatMap<[string, string]>(([name, value]) =>
    name.startsWith('ce-') && typeof value === 'string' ? [[name.slice('ce-'.length), decodeValue(value)]] : [],
  )
  const contentType = headers['content-type'] ?? 'application/json'
  const data = /^application\/(.+\+)?json\b/i.test(contentType)
    ? { data: new WrittenJson(parseJson(body), body.toString('utf8').trim()) }
    : textOrBytes(body)
  return { ...Object.fromEntries(attributes), datacontenttype: contentType, ...data }
}

function decodeValue(value: string): string {
  try {
    return decodeURIComponent(value)
  } catch {
    return value
  }
}

function refuse(msg: string): ValidationError {
  return new ValidationError([{ loc: ['body'], msg, type: 'value_error.jsondecode' }])
}

/** The store keeps text, which has no NUL. */
function textOrBytes(body: Buffer): { data: string } | { data_base64: string } {
  return isUtf8(body) && !body.includes(0) ? { data: body.toString('utf8') } : { data_base64: body.toString('base64') }
}
