import type { IncomingMessage, ServerResponse } from 'node:http'
import { Router, type Request, type Response } from 'express'
import type { Authenticate, Caller } from './auth.ts'
import { readJson } from './body.ts'
import type { ApiDependencies } from './dependencies.ts'
import { ApiError } from './errors.ts'
import { sendJson, sendNothing } from './reply.ts'

export type Method = 'get' | 'post' | 'put' | 'patch' | 'delete'

/** What a handler is given: the verified caller, the path's parts, the query and, when it asks, the body. */
export interface Call {
  readonly deps: ApiDependencies
  readonly caller: Caller
  readonly path: Readonly<Record<string, string | undefined>>
  readonly query: URLSearchParams
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** @throws {ValidationError} where the body is not JSON */
  body(): Promise<unknown>
}

/** An answer: its status and its JSON; without JSON, an empty 204. */
export interface Reply {
  readonly status: number
  readonly json?: unknown
}

export type Handler = (call: Call) => Promise<Reply>

/** Operations by path and method. Kept as data, so that other issues can wrap or list them. */
export type RouteTable = Readonly<Record<string, Partial<Record<Method, Handler>>>>

function queryOf(url: string): URLSearchParams {
  const start = url.indexOf('?')
  return new URLSearchParams(start < 0 ? '' : url.slice(start + 1))
}

function pathOf(request: Request): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(request.params).map(([name, value]) => [name, typeof value === 'string' ? value : undefined]))
}

function serve(deps: ApiDependencies, authenticate: Authenticate, handler: Handler) {
  return async (request: Request, response: Response): Promise<void> => {
    const caller = await authenticate(request.headers.authorization)
    const query = queryOf(request.url)
    const body = () => readJson(request)
    const reply = await handler({ deps, caller, path: pathOf(request), query, request, response, body })
    if (reply.json === undefined) sendNothing(response)
    else sendJson(response, reply.status, reply.json)
  }
}

/** Makes a router of a table; a known path with another method answers 405. */
export function createRoutes(deps: ApiDependencies, authenticate: Authenticate, table: RouteTable): Router {
  const router = Router({ caseSensitive: true })
  for (const [path, operations] of Object.entries(table)) {
    const route = router.route(path)
    for (const [method, handler] of Object.entries(operations) as [Method, Handler][]) {
      route[method](serve(deps, authenticate, handler))
    }
    const allowed = Object.keys(operations).map((method) => method.toUpperCase())
    route.all((_request, response) => {
      response.setHeader('allow', allowed.join(', '))
      throw new ApiError('method_not_allowed', `Allowed here: ${allowed.join(', ')}`)
    })
  }
  return router
}
