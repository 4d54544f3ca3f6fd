import type { IncomingMessage } from 'node:http'
import { pipeline } from 'node:stream/promises'
import { Writable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { LIMITS } from '../../domain/limits.ts'
import { parseJson } from '../body.ts'
import { ApiError } from '../errors.ts'

/**
 * Reads the JSON of a region's call, compressed or not: what one region holds for another may be more than any client sends.
 * @throws {ApiError} payload_too_large over 33,554,432 bytes, as they are without compression
 * @throws {ValidationError} where it is not JSON, or nested deeper than 64 levels
 */
export async function readPacked(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  let bytes = 0
  const collect = new Writable({
    write(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      chunks.push(chunk)
      done(bytes > LIMITS.handOverBodyMaxBytes ? tooLarge() : null)
    },
  })
  try {
    if (request.headers['content-encoding'] === 'gzip') await pipeline(request, createGunzip(), collect)
    else await pipeline(request, collect)
  } catch (error) {
    if (error instanceof ApiError) throw error
    throw new ApiError('generic_error', 'The request was cut off, or is not compressed as it says')
  }
  return parseJson(Buffer.concat(chunks))
}

function tooLarge(): ApiError {
  return new ApiError('payload_too_large', `The body has over ${LIMITS.handOverBodyMaxBytes} bytes`)
}
