import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'
import { ApiError } from '../errors.ts'
import { withBody, type Call, type Reply, type RouteTable } from '../routing.ts'
import { applicationIn } from '../schemas/application.ts'
import { httpErrorOut } from '../schemas/errors.ts'
import { names } from '../schemas/names.ts'
import { shownUrl } from '../schemas/replies.ts'
import { createToken } from '../token.ts'
import { findOrCreateApplication } from './applications.ts'

const appPortalAccessIn = z
  .object({
    featureFlags: names(0, LIMITS.eventTypesPerEndpoint).nullish(),
    application: applicationIn.nullish(),
  })
  .meta({ id: 'AppPortalAccessIn' })
const appPortalAccessOut = z.object({ token: z.string(), url: shownUrl }).meta({ id: 'AppPortalAccessOut' })

/** Where the portal is: as configured, else as the caller reaches this server. */
function baseUrl({ deps, request }: Call): string {
  if (deps.config.publicUrl !== undefined) return deps.config.publicUrl
  const host = request.headers.host
  return host !== undefined && /^[\w.:[\]-]+$/.test(host) ? `http://${host}` : `http://${deps.config.host}:${deps.config.port}`
}

async function grant(call: Call, input: z.output<typeof appPortalAccessIn>): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await findOrCreateApplication(call, path['app_id'], input.application)
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

async function appPortalAccess(call: Call<typeof appPortalAccessIn>): Promise<Reply> {
  return grant(call, await call.body())
}

async function dashboardAccess(call: Call): Promise<Reply> {
  return grant(call, {})
}

function logout(): Promise<Reply> {
  return Promise.reject(new ApiError('not_implemented', 'Tokens end by themselves; logging out is not supported'))
}

export const authenticationRoutes: RouteTable = {
  '/auth/app-portal-access/{app_id}': {
    post: withBody({
      operationId: 'v1.authentication.app-portal-access',
      summary: 'App Portal Access',
      tag: 'Authentication',
      description: 'Makes a token for this application alone. It ends after 28 days.',
      body: appPortalAccessIn,
      replies: { 200: appPortalAccessOut },
      access: 'organisation',
      handle: appPortalAccess,
    }),
  },
  '/auth/dashboard-access/{app_id}': {
    post: {
      operationId: 'v1.authentication.dashboard-access',
      summary: 'Dashboard Access',
      tag: 'Authentication',
      description: 'The older form of app portal access; takes no body.',
      replies: { 200: appPortalAccessOut },
      access: 'organisation',
      handle: dashboardAccess,
    },
  },
  '/auth/logout': {
    post: {
      operationId: 'logout_api_v1_auth_logout__post',
      summary: 'Logout',
      tag: 'Authentication',
      description: 'Not supported: always 501. Tokens end by themselves.',
      replies: { 204: null, 501: httpErrorOut },
      access: 'application',
      handle: logout,
    },
  },
}
