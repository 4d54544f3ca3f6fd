import type { IncomingMessage } from 'node:http'
import { LIMITS } from '../domain/limits.ts'
import { ApiError, ValidationError } from './errors.ts'

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
    request.on('close', () => reject(new ApiError('generic_error', 'The request was cut off')))
  })
}

/**
 * Reads a body of JSON, whatever its content type says.
 * @throws {ValidationError} where it is not JSON
 */
export async function readJson(request: IncomingMessage): Promise<unknown> {
  const body = await readBody(request)
  try {
    return JSON.parse(body.toString('utf8')) as unknown
  } catch (error) {
    const msg = error instanceof Error ? error.message : 'not JSON'
    throw new ValidationError([
      { loc: ['body'], msg: `Not JSON: ${body.length === 0 ? 'the body is empty' : scrub(msg)}`, type: 'value_error.jsondecode' },
    ])
  }
}

// V8 quotes a piece of the text in its message; what was sent stays out of answers and logs.
function scrub(message: string): string {
  const position = /at position \d+/.exec(message)
  return position === null ? 'unexpected end or character' : `unexpected character ${position[0]}`
}
