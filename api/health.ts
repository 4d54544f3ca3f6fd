import type { Request, Response } from 'express'
import { z } from 'zod'
import type { ReadinessChecks } from './dependencies.ts'
import { sendJson, sendNothing } from './reply.ts'
import type { Operation, RouteTable } from './routing.ts'

/** A part that has not answered by then is not ready. */
const CHECK_TIMEOUT_MS = 3000

async function stateOf(check: () => Promise<string>): Promise<string> {
  const { promise: late, resolve } = Promise.withResolvers<string>()
  const timer = setTimeout(() => resolve('no answer'), CHECK_TIMEOUT_MS)
  try {
    return await Promise.race([check(), late])
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  } finally {
    clearTimeout(timer)
  }
}

/** Whether this process answers: asks no other part. */
export function health(_request: Request, response: Response): void {
  sendJson(response, 200, { status: 'ok' })
}

export function ping(_request: Request, response: Response): void {
  sendNothing(response)
}

const healthOut = z.object({ status: z.literal('ok') }).meta({ id: 'HealthOut' })
const shared = { tag: 'Health', access: 'anyone', handle: null } as const satisfies Partial<Operation>

/** How health is documented; `server.ts` mounts it before the table, because it asks for no token. */
export const healthRoutes: RouteTable = {
  '/health': {
    get: { ...shared, operationId: 'v1.health.get', summary: 'Health', replies: { 200: healthOut } },
    head: { ...shared, operationId: 'v1.health.head', summary: 'Health without a body', replies: { 200: null } },
  },
  '/health/ping': {
    get: { ...shared, operationId: 'v1.health.ping', summary: 'Ping', replies: { 204: null } },
    head: { ...shared, operationId: 'v1.health.ping-head', summary: 'Ping', replies: { 204: null } },
  },
}

/** The state of each part: empty where it works, else why it does not. */
export async function readStates(checks: ReadinessChecks): Promise<(readonly [part: string, problem: string])[]> {
  return Promise.all(Object.entries(checks).map(async ([part, check]) => [part, await stateOf(check)] as const))
}

/**
 * Whether this process can take requests: 200 or 503, with the state of each part. Without Postgres it cannot. Without
 * another part it is degraded, and stays ready: what is published is accepted, and is delivered when the part is back.
 * @param details told besides
 */
export function createReadiness(checks: ReadinessChecks, details: Readonly<Record<string, () => string>> = {}) {
  return async (_request: Request, response: Response): Promise<void> => {
    const states = await readStates(checks)
    const failing = states.filter(([, problem]) => problem !== '').map(([part]) => part)
    const isReady = !failing.includes('postgres')
    const parts = Object.fromEntries(states.map(([part, problem]) => [part, problem === '' ? 'ok' : problem]))
    const told = Object.entries(details).map(([name, tell]) => [name, tell()] as const)
    const more = told.length === 0 ? {} : { details: Object.fromEntries(told) }
    const status = !isReady ? 'not ready' : failing.length > 0 ? 'degraded' : 'ready'
    sendJson(response, isReady ? 200 : 503, { status, parts, ...more })
  }
}
