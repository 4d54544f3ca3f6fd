import { dataName, structured, type CloudEventFormat, type DressedMessage } from './cloud-event.ts'
import type { Batching } from './ordering.ts'

/** What a batch is cut from: a delivery with the size of its message. */
export interface Sized {
  readonly attempts: number
  readonly nextAtMs: number
  /** Bytes of the payload. */
  readonly bytes: number
}

export interface Cut {
  /** How many of the first deliveries make the batch. */
  readonly count: number
  /** Whether nothing can come that would still fit. */
  readonly full: boolean
}

/** What an event takes in the body besides its payload: id, type, time and punctuation, generously. */
const EVENT_FRAME_BYTES = 512

/**
 * Cuts the next batch off the front of a queue. What has failed before stays apart from what has not, so that all events of a
 * batch have the same number of attempts behind them. A single event is a batch however large it is.
 */
export function cutBatch(queue: readonly Sized[], limits: Batching): Cut {
  const [first] = queue
  if (first === undefined) return { count: 0, full: false }
  let bytes = 0
  for (const [count, one] of queue.entries()) {
    bytes += one.bytes + EVENT_FRAME_BYTES
    if (count > 0 && (count === limits.maxEvents || bytes > limits.maxBytes || one.attempts !== first.attempts))
      return { count, full: true }
  }
  return { count: queue.length, full: queue.length === limits.maxEvents }
}

export interface BatchBody {
  readonly body: string
  readonly contentType: string
}

/** The body of a batch: a JSON array of events, or, where the endpoint wants CloudEvents, their JSON batch format. */
export function batchBody(events: readonly { message: DressedMessage; payload: string }[], format: CloudEventFormat | null): BatchBody {
  if (format !== null) {
    const bodies = events.map(({ message, payload }) => structured(message, payload))
    return { body: `[${bodies.join(',')}]`, contentType: 'application/cloudevents-batch+json; charset=utf-8' }
  }
  return { body: `[${events.map(({ message, payload }) => eventJson(message, payload)).join(',')}]`, contentType: 'application/json' }
}

function eventJson(message: DressedMessage, payload: string): string {
  const frame = JSON.stringify({ id: message.id, type: message.eventType, timestamp: new Date(message.createdAtMs).toISOString() })
  return `${frame.slice(0, -1)},"${dataName(message)}":${isJson(payload) && message.envelope?.base64 !== true ? payload : JSON.stringify(payload)}}`
}

/** A raw payload need not be JSON. */
function isJson(payload: string): boolean {
  try {
    JSON.parse(payload)
    return true
  } catch {
    return false
  }
}

const MULTI_STATUS = 207

/**
 * Which events of a batch an answer says have failed. Only `207` with `{"failed": [<positions from 0>]}` says so; any other
 * 2xx takes them all. A `207` that says something else is not understood.
 * @returns positions in the batch; 'all' where the answer cannot be understood
 */
export function failedOf(statusCode: number, body: string, events: number): ReadonlySet<number> | 'all' {
  if (statusCode !== MULTI_STATUS) return new Set()
  let answer: unknown
  try {
    answer = JSON.parse(body)
  } catch {
    return 'all'
  }
  const failed = typeof answer === 'object' && answer !== null && 'failed' in answer ? answer.failed : undefined
  if (!Array.isArray(failed) || !failed.every((one) => Number.isInteger(one) && one >= 0 && one < events)) return 'all'
  return new Set(failed as number[])
}
