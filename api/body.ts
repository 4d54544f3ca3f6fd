import type { IncomingMessage } from 'node:http'
import { LIMITS } from '../domain/limits.ts'
import { ApiError, ValidationError } from './errors.ts'
import { scanJson, withPayloadsAsWritten, type Scan } from './written-json.ts'

/** A client that is over the limit may finish sending up to this much, so that it reads the 413 instead of a broken connection. */
const DRAIN_MAX_BYTES = 4 * LIMITS.requestBodyMaxBytes

/**
 * Reads a request's body.
 * @throws {ApiError} payload_too_large over 2,097,152 bytes
 */
export function readBody(request: IncomingMessage): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    request.on('data', (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes <= LIMITS.requestBodyMaxBytes) chunks.push(chunk)
      else chunks.length = 0
      if (bytes > DRAIN_MAX_BYTES) request.destroy()
    })
    request.on('end', () => {
      if (bytes > LIMITS.requestBodyMaxBytes)
        reject(new ApiError('payload_too_large', `The body has over ${LIMITS.requestBodyMaxBytes} bytes`))
      else resolve(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks))
    })
    request.on('error', reject)
    // Every request is closed in the end; only one that was not read whole was cut off.
    request.on('close', () => {
      if (!request.readableEnded) reject(new ApiError('generic_error', 'The request was cut off'))
    })
  })
}

/** @throws {ValidationError} where it is not JSON, or nested deeper than 64 levels */
export function parseJson(body: Buffer): unknown {
  return parseScanned(body, scanJson(body))
}

/** The same, with payloads of messages (`payload` or `data`, also of `message` and `messages`) as `WrittenJson`. */
export function parseMessages(body: Buffer): unknown {
  const scan = scanJson(body)
  return withPayloadsAsWritten(parseScanned(body, scan), body, scan)
}

function parseScanned(body: Buffer, { isTooDeep }: Scan): unknown {
  if (isTooDeep) throw notJson(`Nested deeper than ${LIMITS.jsonDepthMax} levels`)
  try {
    return JSON.parse(body.toString('utf8'))
  } catch (error) {
    const msg = error instanceof Error ? error.message : 'not JSON'
    throw notJson(`Not JSON: ${body.length === 0 ? 'the body is empty' : scrub(msg)}`)
  }
}

function notJson(msg: string): ValidationError {
  return new ValidationError([{ loc: ['body'], msg, type: 'value_error.jsondecode' }])
}

// V8 quotes a piece of the text in its message; what was sent stays out of answers and logs.
function scrub(message: string): string {
  const position = /at position \d+/.exec(message)
  return position === null ? 'unexpected end or character' : `unexpected character ${position[0]}`
}
