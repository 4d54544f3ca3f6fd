import { createPrivateKey, X509Certificate, type KeyObject } from 'node:crypto'
import { createSecureContext } from 'node:tls'
import { LIMITS } from '../../domain/limits.ts'

/** What speaks against a text of PEM, in words for whoever sent it; never a part of the text. */
export class PemError extends Error {
  readonly code = 'pem_invalid'
  override readonly name = 'PemError'
  readonly field: 'certificate' | 'privateKey'

  constructor(field: 'certificate' | 'privateKey', message: string) {
    super(message)
    this.field = field
  }
}

const CERTIFICATE = /-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]{1,16384}-----END CERTIFICATE-----/g

/**
 * Reads certificates, and nothing else of the text.
 * @throws {PemError} where there is none, too many, one that cannot be read, or one that has expired
 */
export function readCertificates(text: string): readonly X509Certificate[] {
  const blocks = text.match(CERTIFICATE) ?? []
  if (blocks.length === 0) throw new PemError('certificate', 'Takes certificates in PEM (-----BEGIN CERTIFICATE-----)')
  if (blocks.length > LIMITS.certificatesMax) throw new PemError('certificate', `Takes at most ${LIMITS.certificatesMax} certificates`)
  return blocks.map((block, i) => {
    const which = blocks.length === 1 ? 'The certificate' : `Certificate ${i + 1}`
    const certificate = parseCertificate(block, which)
    const expiresAt = new Date(certificate.validTo)
    if (expiresAt.getTime() <= Date.now()) throw new PemError('certificate', `${which} expired on ${expiresAt.toISOString()}`)
    return certificate
  })
}

function parseCertificate(block: string, which: string): X509Certificate {
  try {
    return new X509Certificate(block)
  } catch {
    throw new PemError('certificate', `${which} cannot be read`)
  }
}

/** A client certificate as it is kept, and what may be shown of it. */
export interface ClientCertificate {
  /** PEM: the certificate itself, then its chain. */
  readonly certificate: string
  /** PEM, PKCS 8. */
  readonly privateKey: string
  readonly subject: string
  readonly expiresAt: string
}

/** @throws {PemError} */
export function readClientCertificate(certificate: string, privateKey: string): ClientCertificate {
  const chain = readCertificates(certificate)
  const key = parseKey(privateKey)
  const [own] = chain as [X509Certificate]
  if (!own.checkPrivateKey(key)) throw new PemError('privateKey', 'The private key does not belong to the (first) certificate')
  const read: ClientCertificate = {
    certificate: joinCertificates(chain),
    privateKey: key.export({ type: 'pkcs8', format: 'pem' }) as string,
    subject: own.subject.replaceAll('\n', ', '),
    expiresAt: new Date(own.validTo).toISOString(),
  }
  try {
    createSecureContext({ cert: read.certificate, key: read.privateKey })
  } catch {
    throw new PemError('certificate', 'TLS does not take this certificate: its key or its signature is too weak')
  }
  return read
}

export function joinCertificates(certificates: readonly X509Certificate[]): string {
  return certificates.map((certificate) => certificate.toString()).join('')
}

// No passphrase is given: older and newer versions of Node name it differently.
const LOCKED = new Set(['ERR_MISSING_PASSPHRASE', 'ERR_OSSL_CRYPTO_INTERRUPTED_OR_CANCELLED'])

function parseKey(text: string): KeyObject {
  try {
    return createPrivateKey(text)
  } catch (error) {
    const locked = error instanceof Error && 'code' in error && LOCKED.has(String(error.code))
    throw new PemError('privateKey', locked ? 'The private key must not have a passphrase' : 'Takes a private key in PEM')
  }
}
