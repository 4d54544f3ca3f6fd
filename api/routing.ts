import type { IncomingMessage, ServerResponse } from 'node:http'
import { Router, type Request, type Response } from 'express'
import type { z } from 'zod'
import type { Authenticate, Caller } from './auth.ts'
import { parseMessages, readBody } from './body.ts'
import type { ApiDependencies } from './dependencies.ts'
import { ElsewhereError } from './elsewhere.ts'
import { ApiError } from './errors.ts'
import { tellPosition } from './history.ts'
import { idempotencyKeyOf, type Answer, type Idempotency } from './idempotency.ts'
import type { QueryParameters } from './parameters.ts'
import { sendNothing, sendText } from './reply.ts'
import type { Residency } from './residency.ts'
import { parseBody } from './schemas/parse.ts'
import { acrossShards, type Across } from './shards.ts'
import { configurationOf, requireOrganisation } from './scope.ts'

export type Method = 'get' | 'head' | 'post' | 'put' | 'patch' | 'delete'

/** What a handler is given: the verified caller, the path's parts, the query and, when it asks, the body. */
export interface Call<Body extends z.ZodType = z.ZodType> {
  /** `configuration` is that of the application that the path names. */
  readonly deps: ApiDependencies
  readonly caller: Caller
  /** Parts of the path by the names in its braces. */
  readonly path: Readonly<Record<string, string | undefined>>
  readonly query: URLSearchParams
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /**
   * Reads the body and validates it with the operation's schema.
   * @throws {ValidationError} where it is not JSON or the schema refuses it
   */
  body(): Promise<z.output<Body>>
}

/** An answer: its status and its JSON; without JSON, an empty 204. */
export interface Reply {
  readonly status: number
  readonly json?: unknown
  /** Its JSON, where that is text already. */
  readonly text?: string
  /** What it was made of: of answers from several databases one is made of that. */
  readonly parts?: unknown
}

export type Handler<Body extends z.ZodType = z.ZodType> = (call: Call<Body>) => Promise<Reply>

/** Groups of operations in the OpenAPI document. */
export type Tag =
  | 'Application'
  | 'Audit Log'
  | 'Background Task'
  | 'Endpoint'
  | 'Message'
  | 'Message Attempt'
  | 'Operational Webhook'
  | 'Dead Letter'
  | 'Event Type'
  | 'Authentication'
  | 'Health'

/** Who may call: an organisation alone, also an application for itself, or anyone without a token. */
export type Access = 'organisation' | 'application' | 'anyone'

/** One operation of the API as data: it is routed, checked and documented from this. */
export interface Operation {
  readonly operationId: string
  readonly summary: string
  readonly tag: Tag
  /** What the schemas cannot say; Markdown. */
  readonly description?: string
  readonly query?: QueryParameters
  /** Validates the body; absent where the operation takes none. Its `id` names it in the OpenAPI document. */
  readonly body?: z.ZodType
  /** Answers by status: a schema with an `id`, or null for an empty one. Errors that any operation may end in are not among them. */
  readonly replies: Readonly<Record<number, z.ZodType | null>>
  readonly access: Access
  /** Where message data is that it is about; absent: it is about configuration, or sees to that itself. */
  readonly across?: Across
  /** Null where `server.ts` mounts the operation before the table. */
  readonly handle: Handler | null
}

type Declared<Body extends z.ZodType> = Omit<Operation, 'body' | 'handle'> & { readonly body: Body; readonly handle: Handler<Body> | null }

/** An operation whose handler is given the body in the type that its schema makes of it. */
export function withBody<Body extends z.ZodType>(declared: Declared<Body>): Operation {
  return declared
}

/** Operations by path, its variables in braces, and method. */
export type RouteTable = Readonly<Record<string, Partial<Record<Method, Operation>>>>

function queryOf(url: string): URLSearchParams {
  const start = url.indexOf('?')
  return new URLSearchParams(start < 0 ? '' : url.slice(start + 1))
}

function pathOf(request: Request): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(request.params).map(([name, value]) => [name, typeof value === 'string' ? value : undefined]))
}

interface RoutingDependencies extends ApiDependencies {
  readonly authenticate: Authenticate
  readonly idempotency: Idempotency
  readonly residency: Residency | undefined
}

function serve(all: RoutingDependencies, { access, body: schema }: Operation, handle: Handler) {
  return async (request: Request, response: Response): Promise<void> => {
    const caller = await all.authenticate(request, response)
    if (access === 'organisation') requireOrganisation(caller)
    const path = pathOf(request)
    const zone = await all.residency?.zoneOf(caller, path['app_id'])
    if (zone !== undefined) return all.residency?.passOn(request, response, [zone])
    const configuration = configurationOf(all, caller, path['app_id'])
    const deps = configuration === all.configuration ? all : { ...all, configuration }
    const query = queryOf(request.url)
    let read: Buffer | undefined
    const body = async () => {
      read = await readBody(request)
      const json = parseMessages(read)
      return schema === undefined ? json : parseBody(schema, json)
    }
    const answer = async (): Promise<Answer> => {
      const { status, json, text } = await handle({ deps, caller, path, query, request, response, body })
      return { status, text: text ?? (json === undefined ? '' : JSON.stringify(json)) }
    }
    const key = request.method === 'POST' ? idempotencyKeyOf(request) : undefined
    try {
      const answered = key === undefined ? await answer() : await deps.idempotency.once(key, answer)
      if (deps.history.position !== undefined) await tellPosition(deps.history, request, response)
      send(response, answered)
    } catch (error) {
      if (!(error instanceof ElsewhereError) || deps.residency === undefined) throw error
      await deps.residency.passOn(request, response, error.zones, read)
    }
  }
}

function handlerOf({ shards }: RoutingDependencies, { across }: Operation, handle: Handler): Handler {
  return shards === undefined || across === undefined ? handle : acrossShards(handle, across, shards)
}

function send(response: ServerResponse, { status, text }: Answer): void {
  if (text === '') sendNothing(response)
  else sendText(response, status, text)
}

/** Makes a router of a table; a known path with another method answers 405. */
export function createRoutes(deps: RoutingDependencies, table: RouteTable): Router {
  const router = Router({ caseSensitive: true })
  for (const [path, operations] of Object.entries(table)) {
    const route = router.route(path.replaceAll(/\{(\w+)\}/g, ':$1'))
    for (const [method, operation] of Object.entries(operations) as [Method, Operation][]) {
      if (operation.handle !== null) route[method](serve(deps, operation, handlerOf(deps, operation, operation.handle)))
    }
    const allowed = Object.keys(operations).map((method) => method.toUpperCase())
    route.all((_request, response) => {
      response.setHeader('allow', allowed.join(', '))
      throw new ApiError('method_not_allowed', `Allowed here: ${allowed.join(', ')}`)
    })
  }
  return router
}
