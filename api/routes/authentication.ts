import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'
import { ApiError } from '../errors.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { applicationIn } from '../schemas/application.ts'
import { names } from '../schemas/names.ts'
import { parseBody } from '../schemas/parse.ts'
import { requireOrganisation } from '../scope.ts'
import { createToken } from '../token.ts'
import { findOrCreateApplication } from './applications.ts'

const appPortalAccessIn = z.object({
  featureFlags: names(0, LIMITS.eventTypesPerEndpoint).nullish(),
  application: applicationIn.nullish(),
})

/** Where the portal is, as the caller reaches this server. */
function baseUrl({ deps, request }: Call): string {
  const host = request.headers.host
  return host !== undefined && /^[\w.:[\]-]+$/.test(host) ? `http://${host}` : `http://${deps.config.host}:${deps.config.port}`
}

async function grant(call: Call, input: z.output<typeof appPortalAccessIn>): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await findOrCreateApplication(deps, caller, path['app'], input.application)
  const token = await createToken({
    secret: deps.config.jwtSecret,
    subject: application.id,
    org: caller.orgId,
    featureFlags: input.featureFlags ?? [],
    expiresInS: LIMITS.portalTokenLifetimeS,
  })
  const key = Buffer.from(JSON.stringify({ appId: application.id, token })).toString('base64')
  return { status: 200, json: { token, url: `${baseUrl(call)}/portal#key=${key}` } }
}

async function appPortalAccess(call: Call): Promise<Reply> {
  requireOrganisation(call.caller)
  return grant(call, parseBody(appPortalAccessIn, await call.body()))
}

async function dashboardAccess(call: Call): Promise<Reply> {
  requireOrganisation(call.caller)
  return grant(call, {})
}

function logout(): Promise<Reply> {
  return Promise.reject(new ApiError('not_implemented', 'Tokens end by themselves; logging out is not supported'))
}

export const authenticationRoutes: RouteTable = {
  '/auth/app-portal-access/:app': { post: appPortalAccess },
  '/auth/dashboard-access/:app': { post: dashboardAccess },
  '/auth/logout': { post: logout },
}
