import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'
import { expireApplication, expireToken } from '../../storage/revocations.ts'
import { changeConfiguration } from '../change.ts'
import { notFound } from '../errors.ts'
import { withBody, type Call, type Reply, type RouteTable } from '../routing.ts'
import { applicationOf } from '../scope.ts'

const tokenExpireIn = z
  .object({
    expiry: z.int().min(0).max(LIMITS.tokenGraceMaxS).nullish().meta({ description: 'Seconds until the tokens end; at once where absent' }),
  })
  .meta({ id: 'TokenExpireIn' })

const endOf = (body: z.output<typeof tokenExpireIn>): number => Date.now() + (body.expiry ?? 0) * 1000

async function expireAll(call: Call<typeof tokenExpireIn>): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.configuration.reads, caller, path['app_id'])
  const endMs = endOf(await call.body())
  await changeConfiguration(call, async (client, changed) => {
    await expireApplication(client, caller.orgId, application.id, endMs)
    await changed({ operation: 'application.tokens-expired', application })
  })
  deps.revocations.changed()
  return { status: 204 }
}

// Tokens are not stored, so any well-formed `jti` can be refused in advance; it counts in the caller's organisation only.
const TOKEN_ID = /^[\w.:-]{1,256}$/

async function expireOne(call: Call<typeof tokenExpireIn>): Promise<Reply> {
  const tokenId = call.path['token_id'] ?? ''
  if (!TOKEN_ID.test(tokenId)) throw notFound()
  const endMs = endOf(await call.body())
  await changeConfiguration(call, async (client, changed) => {
    await expireToken(client, call.caller.orgId, tokenId, endMs)
    await changed({ operation: 'token.expired', objectId: tokenId })
  })
  call.deps.revocations.changed()
  return { status: 204 }
}

export const tokenRoutes: RouteTable = {
  '/auth/app/{app_id}/expire-all': {
    post: withBody({
      operationId: 'v1.authentication.expire-all',
      summary: 'Expire All',
      tag: 'Authentication',
      description: 'Ends every token of the application that was issued until now.',
      body: tokenExpireIn,
      replies: { 204: null },
      access: 'organisation',
      handle: expireAll,
    }),
  },
  '/auth/token/{token_id}/expire': {
    post: withBody({
      operationId: 'v1.authentication.expire-token',
      summary: 'Expire Token',
      tag: 'Authentication',
      description: "Ends one token of the organisation or of one of its applications, named by the token's `jti`.",
      body: tokenExpireIn,
      replies: { 204: null },
      access: 'organisation',
      handle: expireOne,
    }),
  },
}
