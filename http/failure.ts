import { BlockedAddressError } from './address-guard.ts'
import { LIMITS } from '../domain/limits.ts'

/** Why a request got no answer, in words fit for the endpoint's owner: no path, query, secret or stack. */
export interface RequestFailure {
  readonly kind: 'unreachable' | 'blocked' | 'interrupted'
  readonly reason: string
}

const CLOSED_EARLY = 'the connection was closed before an answer came'
const NOT_CONNECTED = `no connection within ${LIMITS.connectTimeoutMs} ms`
const UNKNOWN_NAME = 'the host name does not resolve'
const INCOMPLETE = 'the connection was closed in the middle of the answer'
const UNVERIFIED = 'the certificate cannot be verified: its issuer is unknown or the chain is incomplete'
const SELF_SIGNED = 'the certificate is self-signed'

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: CLOSED_EARLY,
  EPIPE: CLOSED_EARLY,
  UND_ERR_SOCKET: CLOSED_EARLY,
  ECONNABORTED: CLOSED_EARLY,
  ENOTFOUND: UNKNOWN_NAME,
  ENODATA: UNKNOWN_NAME,
  EHOSTUNREACH: 'the host is unreachable',
  ENETUNREACH: 'the network is unreachable',
  ETIMEDOUT: NOT_CONNECTED,
  UND_ERR_CONNECT_TIMEOUT: NOT_CONNECTED,
  CERT_HAS_EXPIRED: 'certificate has expired',
  CERT_NOT_YET_VALID: 'the certificate is not valid yet',
  ERR_TLS_CERT_ALTNAME_INVALID: 'the certificate is for another host name',
  DEPTH_ZERO_SELF_SIGNED_CERT: SELF_SIGNED,
  SELF_SIGNED_CERT_IN_CHAIN: SELF_SIGNED,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNVERIFIED,
  UNABLE_TO_GET_ISSUER_CERT: UNVERIFIED,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNVERIFIED,
  UND_ERR_HEADERS_OVERFLOW: "the answer's headers are too large",
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: INCOMPLETE,
  UND_ERR_INVALID_ARG: 'the request has a header or path that HTTP does not allow',
  UND_ERR_NOT_SUPPORTED: 'the request has a header that is not supported',
}

const OWN_STOP = new Set(['UND_ERR_DESTROYED', 'UND_ERR_CLOSED'])
const NAME_SERVICE = new Set(['EAI_AGAIN', 'ESERVFAIL', 'ETIMEOUT', 'EREFUSED', 'ECANCELLED', 'EBADRESP'])

/** @param answerBegun whether the status line had been read */
export function describeFailure(error: unknown, answerBegun: boolean): RequestFailure {
  if (error instanceof BlockedAddressError) return { kind: 'blocked', reason: error.message }
  const code = codeOf(error)
  if (code === 'EGRESS_PROXY' && error instanceof Error) return { kind: 'unreachable', reason: error.message }
  if (OWN_STOP.has(code)) return { kind: 'interrupted', reason: 'the sender stopped before the answer came' }
  const reason = REASONS[code] ?? (isParserError(error) ? 'the answer is not valid HTTP/1.1' : byFamily(code))
  return { kind: 'unreachable', reason: answerBegun && reason === CLOSED_EARLY ? INCOMPLETE : reason }
}

function byFamily(code: string): string {
  if (NAME_SERVICE.has(code)) return `the host name could not be resolved (${code})`
  if (code.startsWith('CERT_') || code.includes('_CERT')) return `the certificate was refused (${code})`
  if (code.startsWith('ERR_SSL') || code.startsWith('ERR_TLS') || code === 'EPROTO') return 'the TLS handshake failed'
  return code === '' ? 'the request failed' : `the request failed (${code})`
}

/** undici's parser errors do not always carry their code. */
function isParserError(error: unknown): boolean {
  return error instanceof Error && error.name === 'HTTPParserError'
}

function codeOf(error: unknown): string {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return ''
  return /^[A-Z0-9_]{1,64}$/.test(error.code) ? error.code : ''
}
