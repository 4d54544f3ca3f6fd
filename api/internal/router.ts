import { Router, type Request, type Response } from 'express'
import type { z } from 'zod'
import type { Region } from '../../domain/regions.ts'
import { readRegionToken } from '../../http/region-token.ts'
import type { ApiDependencies, Regional } from '../dependencies.ts'
import { ApiError } from '../errors.ts'
import { sendJson, sendNothing } from '../reply.ts'
import { parseBody } from '../schemas/parse.ts'
import { readPacked } from './packed.ts'

/** What an internal operation is given. */
export interface InternalCall<Body = unknown> {
  readonly deps: ApiDependencies
  readonly regional: Regional
  /** The region that calls. */
  readonly caller: Region
  readonly body: Body
}

/** One operation that other regions call: a POST with JSON. An undefined answer is an empty 204. */
export interface InternalOperation {
  readonly body: z.ZodType
  handle(call: InternalCall): Promise<unknown>
}

/** An operation whose handler is given the body in the type that its schema makes of it. */
export function internalOperation<Body extends z.ZodType>(
  body: Body,
  handle: (call: InternalCall<z.output<Body>>) => Promise<unknown>,
): InternalOperation {
  return { body, handle: (call) => handle(call as InternalCall<z.output<Body>>) }
}

/** The internal API, by path below `/internal/v1`: for regions alone. It is in no OpenAPI document. */
export function createInternal(deps: ApiDependencies, regional: Regional, operations: Readonly<Record<string, InternalOperation>>): Router {
  const router = Router({ caseSensitive: true })
  for (const [path, operation] of Object.entries(operations)) {
    router.post(path, async (request: Request, response: Response): Promise<void> => {
      const caller = await callerOf(deps, regional, request)
      const body = parseBody(operation.body, await readPacked(request))
      const answer = await operation.handle({ deps, regional, caller, body })
      if (answer === undefined) sendNothing(response)
      else sendJson(response, 200, answer)
    })
  }
  return router
}

/** @throws {ApiError} authentication_failed for any token that is not one of another region */
async function callerOf({ config }: ApiDependencies, { regions }: Regional, { headers }: Request): Promise<Region> {
  const token = /^bearer (.+)$/i.exec(headers.authorization ?? '')?.[1]?.trim() ?? ''
  const name = await readRegionToken(token, [config.jwtSecret, ...config.previousJwtSecrets])
  if (name === undefined || !regions.has(name) || name === regions.own.name) throw new ApiError('authentication_failed', 'Invalid token')
  return regions.get(name)
}
