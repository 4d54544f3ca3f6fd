/** CloudEvents 1.0, JSON format and HTTP protocol binding: https://github.com/cloudevents/spec */

export const CLOUD_EVENT_FORMATS = ['cloudevents-structured', 'cloudevents-binary'] as const
export type CloudEventFormat = (typeof CLOUD_EVENT_FORMATS)[number]

/** What a message carries besides its payload. Ordinary messages have none. */
export interface Envelope {
  /** Of the payload; absent: `application/json`. */
  readonly contentType?: string | undefined
  /** Attributes of the event that was published as a CloudEvent, `id` and `source` among them; extensions too. */
  readonly attributes?: CloudEventAttributes | undefined
  /** The payload is binary: its text is the base64 of what is sent. */
  readonly base64?: true | undefined
}

export type CloudEventAttributes = Readonly<Record<string, string | number | boolean>>

/** What of a message is dressed for sending. */
export interface DressedMessage {
  readonly id: string
  readonly appId: string
  readonly eventType: string
  readonly createdAtMs: number
  readonly envelope?: Envelope | undefined
}

export interface Dress {
  readonly body: string | Buffer
  /** Names in lower case, `content-type` among them. */
  readonly headers: Readonly<Record<string, string>>
}

const JSON_TYPE = 'application/json'

/**
 * The body and headers of a delivery.
 * @param format null: the payload as it is; binary data is sent as its bytes, except in structured mode (`data_base64`)
 */
export function dress(message: DressedMessage, payload: string, format: CloudEventFormat | null): Dress {
  const contentType = message.envelope?.contentType ?? JSON_TYPE
  switch (format) {
    case null:
      return { body: bodyOf(message, payload), headers: { 'content-type': contentType } }
    case 'cloudevents-binary':
      return { body: bodyOf(message, payload), headers: { 'content-type': contentType, ...binaryHeaders(attributesOf(message)) } }
    case 'cloudevents-structured':
      return { body: structured(message, payload), headers: { 'content-type': 'application/cloudevents+json; charset=utf-8' } }
  }
}

function bodyOf({ envelope }: DressedMessage, payload: string): string | Buffer {
  return envelope?.base64 === true ? Buffer.from(payload, 'base64') : payload
}

/** The event as one JSON document. */
export function structured(message: DressedMessage, payload: string): string {
  const contentType = message.envelope?.contentType ?? JSON_TYPE
  const json = JSON.stringify({ ...attributesOf(message), datacontenttype: contentType })
  const data = message.envelope?.base64 !== true && isJson(contentType, payload) ? payload : JSON.stringify(payload)
  return `${json.slice(0, -1)},"${dataName(message)}":${data}}`
}

/** The member of a JSON document that a payload stands in. */
export function dataName({ envelope }: DressedMessage): 'data' | 'data_base64' {
  return envelope?.base64 === true ? 'data_base64' : 'data'
}

function attributesOf(message: DressedMessage): CloudEventAttributes {
  return {
    specversion: '1.0',
    id: message.id,
    source: `/app/${message.appId}`,
    type: message.eventType,
    time: new Date(message.createdAtMs).toISOString(),
    ...message.envelope?.attributes,
  }
}

/** Whether the text may stand in a JSON document as it is. A raw payload need not be what its type says. */
function isJson(contentType: string, payload: string): boolean {
  if (!/^application\/(.+\+)?json\b/i.test(contentType)) return false
  try {
    JSON.parse(payload)
    return true
  } catch {
    return false
  }
}

function binaryHeaders(attributes: CloudEventAttributes): Record<string, string> {
  return Object.fromEntries(Object.entries(attributes).map(([name, value]) => [`ce-${name}`, encodeValue(String(value))]))
}

/** Section 3.1.3.2 of the binding: percent-encoded are what is not printable ASCII, and space, double quote and percent. */
function encodeValue(value: string): string {
  return value.replaceAll(/[^\x21\x23\x24\x26-\x7e]/gu, (character) => encodeURIComponent(character.isWellFormed() ? character : '\ufffd'))
}
