import { createHash } from 'node:crypto'
import type { EndpointAccess, OAuth2Client, OAuth2Settings, TlsCredentials } from '../domain/endpoint-access.ts'
import type { Cipher } from './cipher.ts'

/** The columns of an endpoint that say how its server is reached. */
export interface AccessRow {
  readonly id: string
  readonly mtls_cipher: Buffer | null
  readonly ca_certificate: string | null
  readonly oauth2: OAuth2Settings | null
  readonly oauth2_cipher: Buffer | null
  readonly handshake: boolean
}

export const ACCESS_COLUMNS = 'e.mtls_cipher, e.ca_certificate, e.oauth2, e.oauth2_cipher, e.handshake'

export interface KeyPair {
  readonly certificate: string
  readonly privateKey: string
}

/**
 * @returns null for an endpoint that asks for nothing of it
 * @throws {CipherError}
 */
export function readAccess(row: AccessRow, cipher: Cipher): EndpointAccess | null {
  const { id, mtls_cipher: pair, ca_certificate: caCertificate, oauth2, oauth2_cipher: secret, handshake } = row
  if (pair === null && caCertificate === null && secret === null && !handshake) return null
  return {
    endpointId: id,
    tls: pair === null && caCertificate === null ? null : tlsOf(pair === null ? null : openKeyPair(pair, cipher), caCertificate),
    oauth2: oauth2 === null || secret === null ? null : clientOf(oauth2, cipher.decrypt(secret)),
    handshake,
  }
}

export function sealKeyPair(pair: KeyPair, cipher: Cipher): Buffer {
  return cipher.encrypt(JSON.stringify(pair))
}

function openKeyPair(sealed: Buffer, cipher: Cipher): KeyPair {
  return JSON.parse(cipher.decrypt(sealed)) as KeyPair
}

function tlsOf(pair: KeyPair | null, caCertificate: string | null): TlsCredentials {
  const certificate = pair?.certificate ?? null
  const privateKey = pair?.privateKey ?? null
  return { key: digest([certificate, privateKey, caCertificate]), certificate, privateKey, caCertificate }
}

function clientOf(settings: OAuth2Settings, clientSecret: string): OAuth2Client {
  return { ...settings, clientSecret, key: digest([settings, clientSecret]) }
}

function digest(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('base64')
}
