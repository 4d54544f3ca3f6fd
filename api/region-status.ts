import type { Request, Response } from 'express'
import { z } from 'zod'
import type { ApiDependencies } from './dependencies.ts'
import { readStates } from './health.ts'
import { sendJson } from './reply.ts'
import type { RouteTable } from './routing.ts'
import { regionName } from './schemas/names.ts'

const role = z.enum(['active', 'standby']).meta({ description: 'A standby takes no traffic of its own' })
const zone = regionName.nullable().meta({ description: 'Of residency' })
const other = z.object({ name: regionName, zone, role, url: z.string() }).meta({ id: 'OtherRegionOut' })

const regionOut = z
  .object({
    name: regionName,
    zone,
    role,
    takesTraffic: z.boolean().meta({ description: 'Whether this region is active, and this process reaches what it needs' }),
    regions: z.array(other).meta({ description: 'All regions; empty where there is this one alone' }),
  })
  .meta({ id: 'RegionOut' })

type Dependencies = Pick<ApiDependencies, 'config' | 'regional' | 'readiness'>

async function statusOf({ config, regional, readiness }: Dependencies): Promise<z.output<typeof regionOut>> {
  const own = regional?.regions.own ?? { name: config.region, zone: null, role: 'active' as const }
  const states = await readStates(readiness)
  const isReady = states.every(([, problem]) => problem === '')
  return {
    name: own.name,
    zone: own.zone,
    role: own.role,
    takesTraffic: isReady && own.role === 'active',
    regions: (regional?.regions.all ?? []).map((region) => ({
      name: region.name,
      zone: region.zone,
      role: region.role,
      url: region.apiUrl,
    })),
  }
}

/** Names this region and the others, for clients that choose one. Needs no token. */
export function createRegionStatus(deps: Dependencies) {
  return async (_request: Request, response: Response): Promise<void> => sendJson(response, 200, await statusOf(deps))
}

/** For health checks that route traffic: 200 where this region takes it, else 503. */
export function createRegionHealth(deps: Dependencies) {
  return async (_request: Request, response: Response): Promise<void> => {
    const { name, role: ownRole, takesTraffic } = await statusOf(deps)
    sendJson(response, takesTraffic ? 200 : 503, { status: takesTraffic ? 'ok' : 'takes no traffic', region: name, role: ownRole })
  }
}

/** How it is documented; `server.ts` mounts it before the table, because it asks for no token. */
export const regionRoutes: RouteTable = {
  '/region': {
    get: {
      operationId: 'v1.region.get',
      summary: 'Region',
      tag: 'Health',
      description: 'The region that answers, whether it takes traffic, and where the others are.',
      replies: { 200: regionOut },
      access: 'anyone',
      handle: null,
    },
  },
}
