import express from 'express'
import { createAuthenticator } from './auth.ts'
import type { ApiDependencies } from './dependencies.ts'
import { createDocumentation } from './documentation.ts'
import { ApiError } from './errors.ts'
import { createFailures } from './failures.ts'
import { createFront } from './front.ts'
import { createReadiness, health, healthRoutes, ping } from './health.ts'
import { createIdempotency } from './idempotency.ts'
import { createInbox } from './inbox.ts'
import { INTERNAL_OPERATIONS } from './internal/operations.ts'
import { createInternal } from './internal/router.ts'
import { createRegionHealth, createRegionStatus, regionRoutes } from './region-status.ts'
import { createResidency } from './residency.ts'
import { applicationRoutes } from './routes/applications.ts'
import { attemptRoutes } from './routes/attempts.ts'
import { auditLogRoutes } from './routes/audit-log.ts'
import { authenticationRoutes } from './routes/authentication.ts'
import { backgroundTaskRoutes } from './routes/background-tasks.ts'
import { deadLetterRoutes } from './routes/dead-letters.ts'
import { endpointHealthRoutes } from './routes/endpoint-health.ts'
import { endpointQueueRoutes } from './routes/endpoint-queue.ts'
import { endpointHeaderRoutes } from './routes/endpoint-headers.ts'
import { endpointSecretRoutes } from './routes/endpoint-secrets.ts'
import { endpointRoutes } from './routes/endpoints.ts'
import { erasureRoutes } from './routes/erasure.ts'
import { eventTypeRoutes } from './routes/event-types.ts'
import { messageRoutes } from './routes/messages.ts'
import { operationalEndpointRoutes } from './routes/operational-endpoints.ts'
import { createPublish } from './routes/publish.ts'
import { publishingRoutes } from './routes/publishing.ts'
import { replayRoutes } from './routes/replays.ts'
import { resendingRoutes } from './routes/resending.ts'
import { statisticsRoutes } from './routes/statistics.ts'
import { tokenRoutes } from './routes/tokens.ts'
import { createRoutes, type RouteTable } from './routing.ts'

export const ROUTES: RouteTable = {
  ...applicationRoutes,
  ...endpointRoutes,
  ...endpointSecretRoutes,
  ...endpointHeaderRoutes,
  ...endpointHealthRoutes,
  ...endpointQueueRoutes,
  ...eventTypeRoutes,
  // Before the messages by id, which the paths look like.
  ...publishingRoutes,
  ...messageRoutes,
  ...attemptRoutes,
  ...resendingRoutes,
  ...statisticsRoutes,
  ...replayRoutes,
  ...backgroundTaskRoutes,
  ...operationalEndpointRoutes,
  ...auditLogRoutes,
  ...erasureRoutes,
  ...deadLetterRoutes,
  ...authenticationRoutes,
  ...tokenRoutes,
  ...healthRoutes,
  ...regionRoutes,
}

/**
 * The HTTP API. Publishing comes first because it is the hot path; only `createFront` runs before it.
 * @returns an Express application, not listening yet
 */
export function createApi(deps: ApiDependencies): express.Express {
  const app = express()
  app.disable('x-powered-by')
  app.disable('etag')
  app.set('query parser', false)
  app.set('case sensitive routing', true)
  app.use(createFront(deps.config))
  const authenticate = createAuthenticator({
    secret: deps.config.jwtSecret,
    previousSecrets: deps.config.previousJwtSecrets,
    rateLimit: deps.config.rateLimit,
    revocations: deps.revocations,
  })
  const idempotency = createIdempotency(deps)
  const residency = createResidency(deps)
  app.post('/api/v1/app/:app_id/msg', createPublish(deps, { authenticate, idempotency, residency }))
  app.get('/api/v1/health', health)
  app.get('/api/v1/health/ping', ping)
  app.get('/api/v1/region', createRegionStatus(deps))
  app.get('/health', createRegionHealth(deps))
  app.get('/readyz', createReadiness(deps.readiness, deps.details))
  app.use(createDocumentation(ROUTES))
  app.use('/api/v1', createRoutes({ ...deps, authenticate, idempotency, residency }, ROUTES))
  if (deps.regional !== undefined) app.use('/internal/v1', createInternal(deps, deps.regional, INTERNAL_OPERATIONS))
  if (deps.config.environment === 'development') app.use('/inbox', createInbox(deps))
  app.use(() => {
    throw new ApiError('not_found', 'There is nothing at this path')
  })
  app.use(createFailures(deps.log))
  return app
}
