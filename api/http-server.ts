import { createServer, type RequestListener, type Server } from 'node:http'
import { LIMITS } from '../domain/limits.ts'

export interface ServerTimeouts {
  readonly headersMs: number
  readonly requestMs: number
  readonly idleMs: number
  /** How often connections are looked over for those that are late. */
  readonly checkMs: number
}

const TIMEOUTS: ServerTimeouts = {
  headersMs: LIMITS.requestHeadersTimeoutMs,
  requestMs: LIMITS.requestReadTimeoutMs,
  idleMs: LIMITS.clientIdleMs,
  checkMs: 5000,
}

/**
 * An HTTP server for the API, not listening yet. A client that sends its request drop by drop is answered 408 and cut off;
 * one whose headers are too many or too large, 431.
 */
export function createApiServer(api: RequestListener, timeouts: ServerTimeouts = TIMEOUTS): Server {
  const server = createServer(
    {
      maxHeaderSize: LIMITS.requestHeadersMaxBytes,
      headersTimeout: timeouts.headersMs,
      requestTimeout: timeouts.requestMs,
      keepAliveTimeout: timeouts.idleMs,
      connectionsCheckingInterval: timeouts.checkMs,
    },
    api,
  )
  server.maxHeadersCount = LIMITS.requestHeadersMax
  return server
}
