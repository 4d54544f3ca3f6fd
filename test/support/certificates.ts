import { generateKeyPairSync, randomBytes, sign, type KeyObject } from 'node:crypto'

/** A certificate of X.509 with its key, both in PEM, that can issue others. */
export interface Certificate {
  readonly certificate: string
  readonly privateKey: string
  readonly name: string
  readonly key: KeyObject
}

export interface CertificateOptions {
  /** Absent: it is self-signed. */
  readonly issuer?: Certificate
  readonly isAuthority?: boolean
  readonly expiresAt?: Date
  /** Host names and IPv4 addresses that it is for. */
  readonly hosts?: readonly string[]
  /** Absent: EC P-256. */
  readonly keys?: { readonly publicKey: KeyObject; readonly privateKey: KeyObject }
}

const YEAR_MS = 365 * 86_400_000
const ECDSA_WITH_SHA256 = sequence(oid('2a8648ce3d040302'))

/** Makes a certificate, signed by ECDSA with SHA-256. */
export function makeCertificate(name: string, options: CertificateOptions = {}): Certificate {
  const { publicKey, privateKey } = options.keys ?? generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const expiresAt = options.expiresAt ?? new Date(Date.now() + YEAR_MS)
  const extensions = [
    extension('551d13', sequence(...(options.isAuthority === true ? [tag(0x01, Buffer.from([0xff]))] : []))),
    ...(options.hosts === undefined ? [] : [extension('551d11', sequence(...options.hosts.map(hostName)))]),
  ]
  const body = sequence(
    tag(0xa0, tag(0x02, Buffer.from([2]))),
    tag(0x02, Buffer.concat([Buffer.from([1]), randomBytes(15)])),
    ECDSA_WITH_SHA256,
    commonName(options.issuer?.name ?? name),
    sequence(time(new Date(expiresAt.getTime() - 10 * YEAR_MS)), time(expiresAt)),
    commonName(name),
    publicKey.export({ type: 'spki', format: 'der' }),
    tag(0xa3, sequence(...extensions)),
  )
  const signature = sign('sha256', body, options.issuer?.key ?? privateKey)
  const der = sequence(body, ECDSA_WITH_SHA256, tag(0x03, Buffer.concat([Buffer.from([0]), signature])))
  return {
    certificate: `-----BEGIN CERTIFICATE-----\n${der.toString('base64').replaceAll(/.{1,64}/g, '$&\n')}-----END CERTIFICATE-----\n`,
    privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string,
    name,
    key: privateKey,
  }
}

function tag(number: number, content: Buffer): Buffer {
  const { length } = content
  const size = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return Buffer.concat([Buffer.from([number, ...size]), content])
}

function sequence(...parts: readonly Buffer[]): Buffer {
  return tag(0x30, Buffer.concat(parts))
}

function oid(hex: string): Buffer {
  return tag(0x06, Buffer.from(hex, 'hex'))
}

function commonName(name: string): Buffer {
  return sequence(tag(0x31, sequence(oid('550403'), tag(0x0c, Buffer.from(name)))))
}

function time(at: Date): Buffer {
  return tag(0x18, Buffer.from(at.toISOString().replaceAll(/[-:T]|\.\d+/g, '')))
}

function extension(id: string, value: Buffer): Buffer {
  return sequence(oid(id), tag(0x04, value))
}

function hostName(host: string): Buffer {
  return /^[\d.]+$/.test(host) ? tag(0x87, Buffer.from(host.split('.').map(Number))) : tag(0x82, Buffer.from(host))
}
