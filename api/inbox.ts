/** The development inbox: a receiver to point a first endpoint at. Kept in memory, mounted in development only. */
import { timingSafeEqual } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import { Router, type Request, type Response } from 'express'
import { LRUCache } from 'lru-cache'
import { LIMITS } from '../domain/limits.ts'
import { createSigner, type Signer } from '../http/signing.ts'
import { findSecretsByUrlPath } from '../storage/endpoints.ts'
import { readBody } from './body.ts'
import type { ApiDependencies } from './dependencies.ts'
import { inboxPage, type Received } from './inbox-page.ts'
import { sendJson } from './reply.ts'

interface Inbox {
  received: Received[]
  /** Of the endpoints that point here, as last read. */
  signers: readonly Signer[]
  /** Requests by `webhook-id`. */
  readonly attempts: LRUCache<string, number>
}

const TOLERANCE_S = 300

function verify(signers: readonly Signer[], request: Pick<Request, 'get'>, body: Buffer): Received['verified'] {
  const header = (name: string): string => request.get(`webhook-${name}`) ?? request.get(`svix-${name}`) ?? ''
  const signatures = header('signature')
    .split(' ')
    .filter((one) => one !== '')
  if (signers.length === 0 || signatures.length === 0) return 'unknown'
  const timestampS = Number(header('timestamp'))
  if (!(Math.abs(Date.now() / 1000 - timestampS) <= TOLERANCE_S)) return 'no'
  const prefix = `${header('id')}.${header('timestamp')}.`
  const expected = signers.map((sign) => Buffer.from(sign(prefix, body)))
  const matches = (given: Buffer): boolean => expected.some((one) => one.length === given.length && timingSafeEqual(one, given))
  return signatures.some((one) => matches(Buffer.from(one))) ? 'yes' : 'no'
}

/** How the sender asked this inbox to misbehave. */
interface Misbehaviour {
  readonly status: number | undefined
  readonly failFirst: number
  readonly delayMs: number
}

function readMisbehaviour(url: string): Misbehaviour {
  const query = new URLSearchParams(url.split('?')[1] ?? '')
  const number = (name: string, maximum: number): number => {
    const value = Number(query.get(name) ?? 0)
    return Number.isInteger(value) && value >= 0 ? Math.min(value, maximum) : 0
  }
  const status = number('status', 599)
  return {
    status: status >= 200 ? status : undefined,
    failFirst: number('failFirst', 1000),
    delayMs: number('delayMs', LIMITS.inboxDelayMaxMs),
  }
}

function answerOf(asked: Misbehaviour, attempt: number): number {
  if (asked.status !== undefined) return asked.status
  return attempt <= asked.failFirst ? 503 : 200
}

/**
 * `/inbox/{name}`: every method but a GET without `webhook-id` is a received webhook; GET shows the last 100.
 * `?status=500` answers that, `?failFirst=2` fails the first two requests of each webhook-id, `?delayMs=` waits.
 */
export function createInbox(deps: Pick<ApiDependencies, 'pool' | 'cipher'>): Router {
  const inboxes = new LRUCache<string, Inbox>({ max: LIMITS.inboxNames })
  function inboxOf(name: string): Inbox {
    const known = inboxes.get(name)
    if (known !== undefined) return known
    const created: Inbox = { received: [], signers: [], attempts: new LRUCache({ max: LIMITS.inboxKept * 100 }) }
    inboxes.set(name, created)
    return created
  }
  // The secrets are looked up by a scan, so only when those known do not verify: an endpoint is new or its secret rotated.
  async function judge(inbox: Inbox, request: Request<{ name: string }>, body: Buffer): Promise<Received['verified']> {
    if (verify(inbox.signers, request, body) === 'yes') return 'yes'
    const secrets = await findSecretsByUrlPath(deps.pool, `/inbox/${request.params.name}`)
    inbox.signers = secrets.map((stored) => createSigner(deps.cipher.decrypt(stored)))
    return verify(inbox.signers, request, body)
  }
  async function receive(request: Request<{ name: string }>, response: Response): Promise<void> {
    const { name } = request.params
    const inbox = inboxOf(name)
    const body = await readBody(request)
    const id = request.get('webhook-id') ?? ''
    const attempt = id === '' ? 1 : (inbox.attempts.get(id) ?? 0) + 1
    if (id !== '') inbox.attempts.set(id, attempt)
    const asked = readMisbehaviour(request.originalUrl)
    const answered = answerOf(asked, attempt)
    const verified = await judge(inbox, request, body)
    const kept: Received = {
      at: new Date().toISOString(),
      method: request.method,
      headers: Object.fromEntries(Object.entries(request.headers).map(([key, value]) => [key, String(value)])),
      body: body.subarray(0, LIMITS.inboxBodyMaxBytes).toString('utf8'),
      verified,
      attempt,
      answered,
    }
    inbox.received = [kept, ...inbox.received].slice(0, LIMITS.inboxKept)
    if (asked.delayMs > 0) await wait(asked.delayMs, undefined, { ref: false })
    if (!response.destroyed) sendJson(response, answered, { received: true, verified: kept.verified })
  }
  function show(request: Request<{ name: string }>, response: Response): void {
    const { name } = request.params
    const received = inboxes.get(name)?.received ?? []
    if (request.get('accept')?.includes('text/html') !== true) {
      sendJson(response, 200, { name, received })
      return
    }
    response.writeHead(200, {
      'content-type': 'text/html; charset=utf-8',
      'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'",
      'x-content-type-options': 'nosniff',
    })
    response.end(inboxPage(name, received))
  }
  const router = Router({ caseSensitive: true })
  router.all('/:name', (request, response) => {
    const shown = request.method === 'GET' && request.get('webhook-id') === undefined
    return shown ? show(request, response) : receive(request, response)
  })
  return router
}
