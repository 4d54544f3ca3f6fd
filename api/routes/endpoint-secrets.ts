import { LIMITS } from '../../domain/limits.ts'
import { readableSecret } from '../../http/signing.ts'
import { countLiveOldSecrets, readCurrentSecret, rotateSecret } from '../../storage/endpoint-secrets.ts'
import { changeConfiguration } from '../change.ts'
import { ApiError, notFound } from '../errors.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { parseBody } from '../schemas/parse.ts'
import { newSecret, secretRotateIn } from '../schemas/secret.ts'
import { applicationOf, endpointOf } from '../scope.ts'

async function get({ deps, caller, path }: Call): Promise<Reply> {
  const application = await applicationOf(deps.pool, caller, path['app'])
  const endpoint = await endpointOf(deps.pool, application, path['endpoint'])
  const stored = await readCurrentSecret(deps.pool, endpoint.id)
  if (stored === undefined) throw notFound()
  return { status: 200, json: { key: readableSecret(deps.cipher.decrypt(stored)) } }
}

// Answers with the new secret: the Python client reads a body here, and the others ignore it.
async function rotate(call: Call): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.pool, caller, path['app'])
  const input = parseBody(secretRotateIn, await call.body())
  const secret = input.key ?? newSecret()
  await changeConfiguration(deps, async (client, touched) => {
    const endpoint = await endpointOf(client, application, path['endpoint'], { forUpdate: true })
    if ((await countLiveOldSecrets(client, endpoint.id)) >= LIMITS.liveOldSecretsMax) {
      throw new ApiError('limit_reached', `At most ${LIMITS.liveOldSecretsMax} old secrets may be valid at a time`)
    }
    await rotateSecret(client, endpoint.id, deps.cipher.encrypt(secret), input.gracePeriodSeconds ?? LIMITS.secretGraceDefaultS)
    await touched(application.id)
  })
  return { status: 200, json: { key: readableSecret(secret) } }
}

export const endpointSecretRoutes: RouteTable = {
  '/app/:app/endpoint/:endpoint/secret': { get },
  '/app/:app/endpoint/:endpoint/secret/rotate': { post: rotate },
}
