import { LIMITS } from '../../domain/limits.ts'
import { readableSecret } from '../../http/signing.ts'
import { countLiveOldSecrets, readCurrentSecret, rotateSecret } from '../../storage/endpoint-secrets.ts'
import { changeConfiguration } from '../change.ts'
import { ApiError, notFound } from '../errors.ts'
import { withBody, type Call, type Reply, type RouteTable } from '../routing.ts'
import { newSecret, secretOut, secretRotateIn } from '../schemas/secret.ts'
import { applicationOf, endpointOf } from '../scope.ts'

async function get({ deps, caller, path }: Call): Promise<Reply> {
  const application = await applicationOf(deps.configuration.reads, caller, path['app_id'])
  const endpoint = await endpointOf(deps.configuration.reads, application, path['endpoint_id'])
  const stored = await readCurrentSecret(deps.configuration.reads, endpoint.id)
  if (stored === undefined) throw notFound()
  return { status: 200, json: { key: readableSecret(deps.cipher.decrypt(stored)) } }
}

// Answers with the new secret: the Python client reads a body here, and the others ignore it.
async function rotate(call: Call<typeof secretRotateIn>): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.configuration.reads, caller, path['app_id'])
  const input = await call.body()
  const secret = input.key ?? newSecret()
  await changeConfiguration(call, async (client, changed) => {
    const endpoint = await endpointOf(client, application, path['endpoint_id'], { forUpdate: true })
    if ((await countLiveOldSecrets(client, endpoint.id)) >= LIMITS.liveOldSecretsMax) {
      throw new ApiError('limit_reached', `At most ${LIMITS.liveOldSecretsMax} old secrets may be valid at a time`)
    }
    await rotateSecret(client, endpoint.id, deps.cipher.encrypt(secret), input.gracePeriodSeconds ?? LIMITS.secretGraceDefaultS)
    await changed({ operation: 'endpoint.updated', application, endpoint, fields: ['secret'] })
  })
  return { status: 200, json: { key: readableSecret(secret) } }
}

export const endpointSecretHandlers = { get, rotate }

export const endpointSecretRoutes: RouteTable = {
  '/app/{app_id}/endpoint/{endpoint_id}/secret': {
    get: {
      operationId: 'v1.endpoint.get-secret',
      summary: 'Get Endpoint Secret',
      tag: 'Endpoint',
      replies: { 200: secretOut },
      access: 'application',
      handle: get,
    },
  },
  '/app/{app_id}/endpoint/{endpoint_id}/secret/rotate': {
    post: withBody({
      operationId: 'v1.endpoint.rotate-secret',
      summary: 'Rotate Endpoint Secret',
      tag: 'Endpoint',
      description: 'Answers with the new secret. The old one still signs for the grace period.',
      body: secretRotateIn,
      replies: { 200: secretOut },
      access: 'application',
      handle: rotate,
    }),
  },
}
