import { setTimeout as pause } from 'node:timers/promises'
import { CommandFailure, reasonOf } from '../failure.ts'
import { RestError } from '../rest.ts'

const REQUEST_TIMEOUT_MS = 30_000
const TRIES = 5
const RETRY_FIRST_MS = 500
const RETRY_AFTER_MAX_S = 60
const PAGE = 250

/** A service with the Svix API. One request at a time; what passes by itself (429, 502 to 504, a lost connection) is tried again. */
export interface SvixApi {
  /**
   * @param path below `/api/v1`
   * @throws {RestError} where the service refuses
   * @throws {CommandFailure} where it does not answer, or refuses the token
   */
  request<T>(method: string, path: string, body?: unknown): Promise<T>
  /** @returns undefined where there is none */
  find<T>(path: string): Promise<T | undefined>
  /** Everything in a list, page by page. */
  list<T>(path: string): AsyncGenerator<T, void>
}

/**
 * @param name what messages call the service
 * @param baseUrl its address, without `/api/v1`
 */
export function createSvixApi(name: string, baseUrl: string, token: string): SvixApi {
  const send = (method: string, path: string, body: unknown): Promise<Response> =>
    fetch(`${baseUrl}/api/v1${path}`, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    })
  const request = async <T>(method: string, path: string, body?: unknown): Promise<T> => {
    for (let tries = 1; ; tries++) {
      const answer = await send(method, path, body).catch((error: unknown) => error)
      if (answer instanceof Response && !isPassing(answer.status)) return read<T>(name, `${method} ${path}`, answer)
      if (tries === TRIES) throw notAnswering(name, baseUrl, answer)
      await pause(retryDelayMs(answer, tries))
    }
  }
  return {
    request,
    async find<T>(path: string) {
      try {
        return await request<T>('GET', path)
      } catch (error) {
        if (error instanceof RestError && error.status === 404) return undefined
        throw error
      }
    },
    async *list<T>(path: string) {
      let iterator: string | null = null
      for (;;) {
        const from: string = iterator === null ? '' : `&iterator=${encodeURIComponent(iterator)}`
        const page = await request<Page<T>>('GET', `${path}${path.includes('?') ? '&' : '?'}limit=${PAGE}${from}`)
        yield* page.data
        iterator = page.iterator ?? null
        if (page.done || iterator === null) return
      }
    },
  }
}

interface Page<T> {
  readonly data: readonly T[]
  readonly iterator?: string | null
  readonly done: boolean
}

function isPassing(status: number): boolean {
  return status === 429 || (status >= 502 && status <= 504)
}

function retryDelayMs(answer: unknown, tries: number): number {
  const afterS = answer instanceof Response ? Number(answer.headers.get('retry-after') ?? NaN) : NaN
  return Number.isFinite(afterS) ? Math.min(afterS, RETRY_AFTER_MAX_S) * 1000 : RETRY_FIRST_MS * 2 ** (tries - 1)
}

function notAnswering(name: string, baseUrl: string, answer: unknown): CommandFailure {
  if (answer instanceof Response)
    return new CommandFailure('not_running', `${name} at ${baseUrl} keeps answering ${answer.status}: try again later`)
  const reason = answer instanceof Error && answer.cause instanceof Error ? answer.cause : answer
  return new CommandFailure('not_running', `${name} does not answer at ${baseUrl} (${reasonOf(reason)}): is the address right?`)
}

async function read<T>(name: string, what: string, answer: Response): Promise<T> {
  const text = await answer.text()
  if (answer.status === 401 || answer.status === 403) {
    throw new CommandFailure('usage', `${name} refuses the token (${answer.status} for ${what}): it takes the token of an organisation`)
  }
  if (!answer.ok) throw new RestError(answer.status, `${name} answered ${answer.status} to ${what}: ${text.slice(0, 300)}`)
  try {
    return (text === '' ? undefined : JSON.parse(text)) as T
  } catch (cause) {
    throw new CommandFailure('usage', `${name} answered ${what} with something that is no JSON: is the address that of its API?`, { cause })
  }
}
