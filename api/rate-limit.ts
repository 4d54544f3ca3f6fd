import type { ServerResponse } from 'node:http'
import { ApiError } from './errors.ts'

/** What one token may still send: refilled steadily, a second's worth at most. */
export interface Bucket {
  left: number
  asOfMs: number
}

export interface RateLimit {
  newBucket(): Bucket
  /**
   * Counts one request and tells the client where it stands, in the fields of draft-ietf-httpapi-ratelimit-headers-10.
   * @throws {ApiError} too_many_requests
   */
  take(bucket: Bucket, response: ServerResponse): void
}

/** @param perSecond requests a second, which may also come all at once; 0 is no limit */
export function createRateLimit(perSecond: number): RateLimit {
  const policy = `"token";q=${perSecond};w=1`
  return {
    newBucket: () => ({ left: perSecond, asOfMs: performance.now() }),
    take(bucket, response) {
      if (perSecond === 0) return
      const nowMs = performance.now()
      bucket.left = Math.min(perSecond, bucket.left + ((nowMs - bucket.asOfMs) * perSecond) / 1000)
      bucket.asOfMs = nowMs
      const isOver = bucket.left < 1
      if (!isOver) bucket.left -= 1
      response.setHeader('ratelimit-policy', policy)
      response.setHeader('ratelimit', `"token";r=${Math.floor(bucket.left)};t=1`)
      if (!isOver) return
      response.setHeader('retry-after', '1')
      throw new ApiError('too_many_requests', `A token may send ${perSecond} requests a second`)
    },
  }
}
