import { createHash, randomUUID } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import type { Request } from 'express'
import { EventIdConflictError, RepeatedKeyError } from '../domain/errors.ts'
import { LIMITS } from '../domain/limits.ts'
import type { StoredMessage } from '../storage/history/messages.ts'
import { answerKey, claimKey, findPublished, releaseKey } from '../storage/idempotency.ts'
import type { ApiDependencies } from './dependencies.ts'
import { ApiError, ruleError } from './errors.ts'
import { findPublishedIn } from './sharded-intake.ts'

const WAIT_MIN_MS = 20
const WAIT_MAX_MS = 250

/** What a request is answered with: the text is empty for an answer without a body. */
export interface Answer {
  readonly status: number
  readonly text: string
}

export interface Idempotency {
  /** Serves a request once: a repeated one is given the first one's answer. Answers other than 2xx are not kept. */
  once(key: string, serve: () => Promise<Answer>): Promise<Answer>
  /**
   * Publishes once. The key is stored by the statement that stores the message, so neither a crash nor a lost answer comes between them.
   * @param publish gives the answer, or throws what kept the message from being stored
   * @param show the answer made of the message that was stored first
   */
  publishOnce(key: string, publish: () => Promise<string>, show: (first: StoredMessage) => string): Promise<string>
}

/**
 * Names a request by its token, `idempotency-key`, path and query.
 * @returns undefined without a key
 * @throws {ValidationError} for a key that is too long
 */
export function idempotencyKeyOf(request: Pick<Request, 'headers' | 'originalUrl'>): string | undefined {
  const key = request.headers['idempotency-key']
  if (key === undefined || key.length === 0) return undefined
  if (key.length > LIMITS.idempotencyKeyMaxChars) {
    throw ruleError(['header', 'idempotency-key'], `Takes at most ${LIMITS.idempotencyKeyMaxChars} characters`)
  }
  return createHash('sha256')
    .update(JSON.stringify([request.headers.authorization, key, request.originalUrl.replace(/\/(?=\?|$)/, '')]))
    .digest('base64url')
}

export function createIdempotency(deps: Pick<ApiDependencies, 'pool' | 'cipher' | 'shards' | 'log'>): Idempotency {
  const { cipher, shards, log } = deps
  // Whichever process a request is repeated at, its key is at one place.
  const [first] = shards?.all ?? []
  const poolOf = () => (shards === undefined ? deps.pool : shards.at(first!).pool)
  const published = (key: string) => (shards === undefined ? findPublished(deps.pool, key) : findPublishedIn(shards, key))

  /** @returns the answer of the request that had the key first, undefined where the key is the caller's now */
  const take = async (key: string, claim: string): Promise<Answer | undefined> => {
    const untilMs = performance.now() + LIMITS.idempotencyWaitMs
    for (let waitMs = WAIT_MIN_MS; ; waitMs = Math.min(2 * waitMs, WAIT_MAX_MS)) {
      const known = await claimKey(poolOf(), key, claim)
      if (known === undefined) return undefined
      if (known.state === 'answered') return { status: known.status, text: cipher.decrypt(known.bodyCipher) }
      if (performance.now() > untilMs) throw new ApiError('unavailable', 'A request with this idempotency key is still being served')
      await pause(waitMs)
    }
  }

  return {
    async once(key, serve) {
      const claim = randomUUID()
      const first = await take(key, claim)
      if (first !== undefined) return first
      // The caller is told what its request did, even where that cannot be remembered.
      const orLog = (error: unknown) => log.warn({ err: error }, 'idempotency.not_kept')
      const release = () => releaseKey(poolOf(), key, claim).catch(orLog)
      try {
        const answer = await serve()
        if (answer.status >= 200 && answer.status < 300) {
          await answerKey(poolOf(), key, claim, answer.status, cipher.encrypt(answer.text)).catch(orLog)
        } else await release()
        return answer
      } catch (error) {
        await release()
        throw error
      }
    },
    async publishOnce(key, publish, show) {
      try {
        return await publish()
      } catch (error) {
        const first = await published(key)
        if (first !== undefined) return show(first)
        // The key was taken by a message whose event id another one has: nothing was stored, as nothing would be now.
        throw error instanceof RepeatedKeyError ? new EventIdConflictError('the first message with this key was a conflict') : error
      }
    },
  }
}
