import { CommandFailure, reasonOf } from './failure.ts'

const REQUEST_TIMEOUT_MS = 15_000

/** A request that the service refused. */
export class RestError extends Error {
  override readonly name = 'RestError'
  readonly code = 'rest_refused'
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

export interface RestClient {
  get<T>(path: string): Promise<T>
  post<T>(path: string, body: unknown): Promise<T>
  patch<T>(path: string, body: unknown): Promise<T>
}

/**
 * A client of the running service's own REST API.
 * @param baseUrl e.g. `http://127.0.0.1:8071`
 * @returns a client whose calls throw {RestError} where the service refuses, {CommandFailure} `not_running` where it is not there
 */
export function createRestClient(baseUrl: string, token: string): RestClient {
  const request = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    const response = await fetch(`${baseUrl}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }).catch((cause: unknown) => {
      const reason = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause
      throw new CommandFailure('not_running', `Tidings does not answer at ${baseUrl} (${reasonOf(reason)}): start it with npm start`, {
        cause,
      })
    })
    const text = await response.text()
    if (!response.ok) throw new RestError(response.status, `${method} ${path} was answered ${response.status}: ${text.slice(0, 300)}`)
    return (text === '' ? undefined : JSON.parse(text)) as T
  }
  return {
    get: (path) => request('GET', path),
    post: (path, body) => request('POST', path, body),
    patch: (path, body) => request('PATCH', path, body),
  }
}
