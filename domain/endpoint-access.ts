/** How an endpoint's server is reached beyond its URL. */
export interface EndpointAccess {
  readonly endpointId: string
  readonly tls: TlsCredentials | null
  readonly oauth2: OAuth2Client | null
  /** Whether it has to allow deliveries before the first is sent (HTTP 1.1 Web Hooks for Event Delivery, section 4). */
  readonly handshake: boolean
}

/** PEM texts. */
export interface TlsCredentials {
  /** Equal for equal credentials: what connections are kept by. */
  readonly key: string
  /** The certificate that Tidings shows, with its chain; null: none. */
  readonly certificate: string | null
  readonly privateKey: string | null
  /** The only authorities that the endpoint's certificate may come from; null: those that everybody trusts. */
  readonly caCertificate: string | null
}

export const OAUTH2_AUTH_METHODS = ['client_secret_basic', 'client_secret_post'] as const

/** The client credentials grant, without its secret (RFC 6749, section 4.4). */
export interface OAuth2Settings {
  readonly tokenUrl: string
  readonly clientId: string
  readonly scopes: readonly string[]
  readonly audience: string | null
  /** How the client shows itself to the token server, by the names of RFC 7591. */
  readonly authMethod: (typeof OAUTH2_AUTH_METHODS)[number]
}

export interface OAuth2Client extends OAuth2Settings {
  /** Equal for equal settings and secret. */
  readonly key: string
  readonly clientSecret: string
}
