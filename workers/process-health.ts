import type { IncomingMessage, ServerResponse } from 'node:http'

/** What a process without the API tells the platform that runs it, on the port of its metrics. */
export interface ProcessHealth {
  /** Answers `/health` and `/readyz`. @returns false, and nothing is answered, where something else is asked for */
  answer(request: IncomingMessage, response: ServerResponse): boolean
  /** From now on the process is ready: its roles run. */
  started(): void
  /** From now on it is not: it ends what it has. */
  stopping(): void
}

/**
 * `/health` is 200 as long as the process answers, so that one that hangs is started anew. `/readyz` is 200 while its roles
 * run, else 503, so that a rolling upgrade goes on when the new process works. Neither asks Postgres or Temporal: workers
 * that cannot reach them wait, and starting them anew would not help.
 */
export function createProcessHealth(): ProcessHealth {
  let state: 'starting' | 'ready' | 'stopping' = 'starting'
  return {
    answer(request, response) {
      if (request.url !== '/health' && request.url !== '/readyz') return false
      const isWell = request.url === '/health' || state === 'ready'
      const body = JSON.stringify({ status: request.url === '/health' ? 'ok' : state })
      response.writeHead(isWell ? 200 : 503, { 'content-type': 'application/json' }).end(body)
      return true
    },
    started() {
      if (state === 'starting') state = 'ready'
    },
    stopping() {
      state = 'stopping'
    },
  }
}
