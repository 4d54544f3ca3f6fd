/** How the Temporal server is reached beyond its address. */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { flag } from './formats.ts'

/** Options of the SDK's connections. */
export interface TemporalAccess {
  readonly tls: false | TemporalTls
  readonly apiKey?: string
}

interface TemporalTls {
  readonly serverNameOverride?: string
  /** PEM, as the two below. */
  readonly serverRootCACertificate?: Buffer
  readonly clientCertPair?: { readonly crt: Buffer; readonly key: Buffer }
}

/** A file's content; `isPem` throws where it is not what it should be. */
const file = (what: string, isPem: (content: Buffer) => unknown) =>
  z
    .string()
    .transform((path, context) => {
      try {
        const content = readFileSync(path)
        isPem(content)
        return content
      } catch (error) {
        const code = error instanceof Error && 'code' in error ? String(error.code) : ''
        context.addIssue({
          code: 'custom',
          message: /^E[A-Z]+$/.test(code) ? `cannot be read (${code})` : `must name a file with ${what} in PEM`,
        })
        return z.NEVER
      }
    })
    .optional()

const certificate = file('a certificate', (content) => new X509Certificate(content))

/** Temporal joins the two with a dot or a colon. */
const versionName = z.string().regex(/^[\w-]{1,100}$/, 'may have letters, digits, hyphens and underscores, 100 at most')

/** Temporal's own names for these settings (https://docs.temporal.io/develop/environment-configuration). */
export const TEMPORAL_VARIABLES = {
  TEMPORAL_TLS: flag,
  TEMPORAL_TLS_SERVER_CA_CERT_PATH: certificate,
  TEMPORAL_TLS_SERVER_NAME: z.string().optional(),
  TEMPORAL_TLS_CLIENT_CERT_PATH: certificate,
  TEMPORAL_TLS_CLIENT_KEY_PATH: file('a private key', (content) => createPrivateKey(content)),
  TEMPORAL_API_KEY: z
    .string()
    .regex(/^[\x21-\x7e]+$/, 'must be printable ASCII')
    .optional(),
  TIDINGS_DEPLOYMENT_NAME: versionName.default('tidings'),
  TIDINGS_BUILD_ID: versionName.optional(),
}

type Values = z.output<z.ZodObject<typeof TEMPORAL_VARIABLES>>

/** Which build of the workers this process has, as Temporal's worker versioning knows it. */
export interface WorkerVersion {
  readonly deploymentName: string
  readonly buildId: string
}

/** @returns undefined where no build is named: such workers take what is given to no version */
export function workerVersion(value: Values): WorkerVersion | undefined {
  const { TIDINGS_DEPLOYMENT_NAME: deploymentName, TIDINGS_BUILD_ID: buildId } = value
  return buildId === undefined ? undefined : { deploymentName, buildId }
}

/** What speaks against the settings together, a line for each problem. */
export function temporalProblems(value: Values): string[] {
  const { TEMPORAL_TLS_CLIENT_CERT_PATH: crt, TEMPORAL_TLS_CLIENT_KEY_PATH: key } = value
  if (crt === undefined && key === undefined) return []
  if (key === undefined) return ['TEMPORAL_TLS_CLIENT_KEY_PATH: required with TEMPORAL_TLS_CLIENT_CERT_PATH']
  if (crt === undefined) return ['TEMPORAL_TLS_CLIENT_CERT_PATH: required with TEMPORAL_TLS_CLIENT_KEY_PATH']
  const isPair = new X509Certificate(crt).checkPrivateKey(createPrivateKey(key))
  return isPair ? [] : ['TEMPORAL_TLS_CLIENT_KEY_PATH: does not belong to the certificate of TEMPORAL_TLS_CLIENT_CERT_PATH']
}

/** TLS is on where it is asked for, and where anything is set that needs it: keys and certificates are never sent in clear. */
export function temporalAccess(value: Values): TemporalAccess {
  const { TEMPORAL_API_KEY: apiKey, TEMPORAL_TLS_SERVER_CA_CERT_PATH: authorities, TEMPORAL_TLS_SERVER_NAME: name } = value
  const { TEMPORAL_TLS_CLIENT_CERT_PATH: crt, TEMPORAL_TLS_CLIENT_KEY_PATH: key } = value
  const tls: TemporalTls = {
    ...(name === undefined ? {} : { serverNameOverride: name }),
    ...(authorities === undefined ? {} : { serverRootCACertificate: authorities }),
    ...(crt === undefined || key === undefined ? {} : { clientCertPair: { crt, key } }),
  }
  const isOn = value.TEMPORAL_TLS || apiKey !== undefined || Object.keys(tls).length > 0
  return { tls: isOn && tls, ...(apiKey === undefined ? {} : { apiKey }) }
}
