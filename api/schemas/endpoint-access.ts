import { z } from 'zod'
import { OAUTH2_AUTH_METHODS } from '../../domain/endpoint-access.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { Cipher } from '../../storage/cipher.ts'
import { sealKeyPair } from '../../storage/endpoint-access.ts'
import type { Endpoint, Mtls, OAuth2 } from '../../storage/endpoints.ts'
import { joinCertificates, PemError, readCertificates, readClientCertificate, type ClientCertificate } from './pem.ts'
import { shownTime, shownUrl } from './replies.ts'
import { url } from './url.ts'

const pem = (description: string) => z.string().max(LIMITS.pemMaxChars).meta({ maxLength: LIMITS.pemMaxChars, description })

/** Reads PEM, and reports what speaks against it at its field. */
function reading<T>(context: z.RefinementCtx, toPath: (field: PemError['field']) => string[], read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof PemError)) throw error
    context.addIssue({ code: 'custom', message: error.message, path: toPath(error.field) })
    return z.NEVER
  }
}

const mtls = z
  .object({
    certificate: pem('PEM: the certificate, then the chain above it'),
    privateKey: pem('PEM, without a passphrase. It is never shown again').meta({ writeOnly: true }),
  })
  .transform((given, context) =>
    reading(
      context,
      (field) => [field],
      () => readClientCertificate(given.certificate, given.privateKey),
    ),
  )
  .meta({ id: 'EndpointMtlsIn', description: 'The client certificate that is shown to the endpoint' })

const caCertificate = pem('PEM: the only authorities that the certificate of the endpoint may come from').transform((given, context) =>
  reading(
    context,
    () => [],
    () => joinCertificates(readCertificates(given)),
  ),
)

/** What RFC 6749 allows in ids and secrets, in a scope, and in a URI. */
const VISIBLE = /^[\x20-\x7e]{1,1024}$/
const SCOPE = /^[\x21\x23-\x5b\x5d-\x7e]{1,256}$/
const URI = /^[\x21-\x7e]{1,1024}$/

const visible = z.string().regex(VISIBLE, 'Takes printable ASCII')

const oauth2 = z
  .object({
    tokenUrl: url.regex(/^[\x21-\x7e]*$/, 'Takes printable ASCII').meta({ description: 'Where tokens come from' }),
    clientId: visible,
    clientSecret: visible.meta({ writeOnly: true, description: 'It is never shown again' }),
    scopes: z.array(z.string().regex(SCOPE, 'Not a scope')).max(LIMITS.oauth2ScopesMax).nullish(),
    audience: z.string().regex(URI, 'Takes printable ASCII').nullish(),
    authMethod: z.enum(OAUTH2_AUTH_METHODS).nullish().meta({ default: 'client_secret_basic' }),
  })
  .meta({ id: 'EndpointOAuth2In', description: 'Client credentials (RFC 6749): deliveries carry a bearer token' })

const handshake = z.boolean().meta({ description: 'Whether the endpoint has to allow deliveries, asked by `OPTIONS`, before the first' })

export const accessFields = {
  mtls: mtls.nullish().default(null),
  caCertificate: caCertificate.nullish().default(null),
  oauth2: oauth2.nullish().default(null),
  handshake: handshake.default(false),
}

export const accessPatchFields = {
  mtls: mtls.nullable().optional(),
  caCertificate: caCertificate.nullable().optional(),
  oauth2: oauth2.nullable().optional(),
  handshake: handshake.optional(),
}

export const shownAccessFields = {
  mtls: z.object({ subject: z.string(), expiresAt: shownTime }).meta({ id: 'EndpointMtlsOut' }).nullable(),
  caCertificate: z.string().nullable(),
  oauth2: z
    .object({
      tokenUrl: shownUrl,
      clientId: z.string(),
      scopes: z.array(z.string()),
      audience: z.string().nullable(),
      authMethod: z.enum(OAUTH2_AUTH_METHODS),
    })
    .meta({ id: 'EndpointOAuth2Out' })
    .nullable(),
  handshake: z.boolean(),
}

interface AccessInput {
  readonly mtls: ClientCertificate | null
  readonly oauth2: z.output<typeof oauth2> | null
}

/** The secrets among the fields, encrypted as they are kept. */
export function sealedAccess({ mtls: pair, oauth2: client }: AccessInput, cipher: Cipher): Pick<Endpoint, 'mtls' | 'oauth2'> {
  return { mtls: pair && sealPair(pair, cipher), oauth2: client && sealClient(client, cipher) }
}

function sealPair({ subject, expiresAt, certificate, privateKey }: ClientCertificate, cipher: Cipher): Mtls {
  return { subject, expiresAt, sealed: sealKeyPair({ certificate, privateKey }, cipher).toString('base64') }
}

function sealClient(client: z.output<typeof oauth2>, cipher: Cipher): OAuth2 {
  return {
    tokenUrl: client.tokenUrl,
    clientId: client.clientId,
    scopes: client.scopes ?? [],
    audience: client.audience ?? null,
    authMethod: client.authMethod ?? 'client_secret_basic',
    sealed: cipher.encrypt(client.clientSecret).toString('base64'),
  }
}

/** Of a client certificate its subject and its end, of an OAuth2 client all but its secret. */
export function showAccess({ mtls: pair, caCertificate: authorities, oauth2: client, handshake: asked }: Endpoint) {
  return {
    mtls: pair === null ? null : { subject: pair.subject, expiresAt: pair.expiresAt },
    caCertificate: authorities,
    oauth2: client === null ? null : showClient(client),
    handshake: asked,
  }
}

function showClient({ tokenUrl, clientId, scopes, audience, authMethod }: OAuth2) {
  return { tokenUrl, clientId, scopes, audience, authMethod }
}
