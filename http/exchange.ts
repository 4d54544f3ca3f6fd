import type { Dispatcher } from 'undici'
import { parseRetryAfter } from '../domain/backoff.ts'
import { LIMITS } from '../domain/limits.ts'
import type { AttemptOutcome, OutcomeKind } from '../domain/outcome.ts'
import { describeFailure } from './failure.ts'

/** Bytes of a too long answer that are read and thrown away to keep the connection; beyond, it is closed. */
const DRAIN_MAX_BYTES = 131_072

export type ResponseHeaders = Parameters<NonNullable<Dispatcher.DispatchHandler['onResponseStart']>>[2]

/** Gets what became of a request, and the headers of the answer: none where there was no answer. */
export type Settle = (outcome: AttemptOutcome, headers: ResponseHeaders) => void

/**
 * One request and its answer, as undici's own handler interface: per request this is one object and one timer, where
 * `agent.request` adds a stream and several promises (measured in docs/performance.md).
 */
export class Exchange implements Dispatcher.DispatchHandler {
  readonly #startedAt = performance.now()
  readonly #timer: NodeJS.Timeout
  readonly #timeoutMs: number
  readonly #settle: Settle
  readonly #mayStart: (() => boolean) | undefined
  #controller: Dispatcher.DispatchController | undefined
  #settled = false
  #ended = false
  #statusCode = 0
  #headers: ResponseHeaders = NO_HEADERS
  #chunks: Buffer[] = []
  #bytes = 0

  /**
   * @param settle called exactly once
   * @param mayStart asked right before the request is written
   */
  constructor(timeoutMs: number, settle: Settle, mayStart?: () => boolean) {
    this.#timeoutMs = timeoutMs
    this.#settle = settle
    this.#mayStart = mayStart
    this.#timer = setTimeout(onTimeout, timeoutMs, this)
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#mayStart?.() === false) this.#finish('interrupted', 0, 'it was too late to send it')
    // Timed out or interrupted while it waited for a connection: it must not be sent any more.
    if (this.#settled) controller.abort(new Error('settled'))
  }

  onResponseStart(_controller: Dispatcher.DispatchController, statusCode: number, headers: ResponseHeaders): void {
    if (statusCode < 200) return
    this.#statusCode = statusCode
    this.#headers = headers
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#bytes < LIMITS.responseBodyMaxBytes) this.#chunks.push(chunk)
    this.#bytes += chunk.length
    if (this.#bytes <= LIMITS.responseBodyMaxBytes) return
    this.#answered()
    if (this.#bytes > LIMITS.responseBodyMaxBytes + DRAIN_MAX_BYTES) this.#abort(controller)
  }

  onResponseEnd(): void {
    this.#end()
    const settle = this.#settle
    // undici has the connection free an immediate after this. Whoever hears of the answer before, and sends the next request
    // at once, opens another connection: twice as many would be open.
    this.#answered((outcome, headers) => queueMicrotask(() => setImmediate(settle, outcome, headers)))
  }

  onResponseError(_controller: Dispatcher.DispatchController | null, error: Error): void {
    this.#end()
    if (this.#settled) return
    const { kind, reason } = describeFailure(error, this.#statusCode !== 0)
    this.#finish(kind, 0, reason)
  }

  /** The process stops: the outcome is `interrupted` at once and the connection is closed. */
  interrupt(): void {
    this.#finish('interrupted', 0, 'the sender stopped before the answer came')
    this.#abort(this.#controller)
  }

  expire(): void {
    const what = this.#statusCode === 0 ? 'answer' : 'complete answer'
    this.#finish('unreachable', 0, `no ${what} within ${this.#timeoutMs} ms`)
    this.#abort(this.#controller)
  }

  #answered(settle = this.#settle): void {
    const kind = this.#statusCode < 300 ? 'delivered' : 'rejected'
    this.#finish(kind, this.#statusCode, this.#settled ? '' : readBody(this.#chunks, this.#bytes), settle)
  }

  #finish(kind: OutcomeKind, statusCode: number, body: string, settle = this.#settle): void {
    if (this.#settled) return
    this.#settled = true
    this.#chunks = []
    const durationMs = Math.round(performance.now() - this.#startedAt)
    const retryAfter = headerOf(this.#headers, 'retry-after')
    const retryAfterMs = retryAfter === undefined ? undefined : parseRetryAfter(retryAfter, Date.now())
    const outcome = { kind, statusCode, body, durationMs }
    settle(retryAfterMs === undefined ? outcome : { ...outcome, retryAfterMs }, this.#headers)
  }

  #abort(controller: Dispatcher.DispatchController | undefined): void {
    if (this.#ended) return
    this.#end()
    controller?.abort(new Error('settled'))
  }

  #end(): void {
    this.#ended = true
    clearTimeout(this.#timer)
  }
}

const NO_HEADERS: ResponseHeaders = {}

/** The first of a header's values. @param name in lower case */
export function headerOf(headers: ResponseHeaders, name: string): string | undefined {
  const value = headers[name]
  return Array.isArray(value) ? value[0] : value
}

function onTimeout(exchange: Exchange): void {
  exchange.expire()
}

/** Postgres text holds no NUL, and a cut may fall into a character: both become or lose the replacement character. */
function readBody(chunks: readonly Buffer[], bytes: number): string {
  const [first] = chunks
  if (first === undefined) return ''
  const whole = chunks.length === 1 ? first : Buffer.concat(chunks)
  if (bytes <= LIMITS.responseBodyMaxBytes) return withoutNul(whole.toString('utf8'))
  return withoutNul(whole.toString('utf8', 0, LIMITS.responseBodyMaxBytes).replace(/\uFFFD+$/, ''))
}

function withoutNul(text: string): string {
  return text.includes('\0') ? text.replaceAll('\0', '\uFFFD') : text
}
