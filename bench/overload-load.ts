import { setTimeout as delay } from 'node:timers/promises'
import { Pool } from 'undici'
import { reasonOf } from '../cli/failure.ts'
import { nowMs } from './clock.ts'
import type { Target } from './own-service.ts'
import { buildPayload } from './payload.ts'

/** Publishes that all want to be made at once, for so long in each period. */
export interface Burst {
  readonly ratePerS: number
  readonly seconds: number
  readonly everyS: number
}

export interface LoadPlan {
  readonly run: string
  readonly appId: string
  readonly minutes: number
  /** That publish one message after the other, without a pause. */
  readonly publishers: number
  readonly burst: Burst
  readonly messagesMax: number
}

/** What the publishers were answered. */
export interface Answers {
  /** By the message's number: 202, or not. */
  readonly accepted: Uint8Array
  acceptedCount: number
  /** 429. */
  refused: number
  refusedWithRetryAfter: number
  /** Anything else, connections that broke included: nobody knows what became of the message. */
  failed: number
  firstError: string | undefined
  /** Numbers that are given out. */
  used: number
}

const PAYLOAD_BYTES = 1024
/** More than the publishes that wait in the service at most (`publishesWaitingMax`). */
const CONNECTIONS = 4096
const REQUEST_TIMEOUT_MS = 60_000
const TURN_MS = 10

export function startLoad({ url, token }: Target, plan: LoadPlan): { readonly answers: Answers; readonly done: Promise<void> } {
  const answers: Answers = {
    ...{ accepted: new Uint8Array(plan.messagesMax), acceptedCount: 0, refused: 0, refusedWithRetryAfter: 0 },
    ...{ failed: 0, firstError: undefined, used: 0 },
  }
  const pool = new Pool(url, { connections: CONNECTIONS, headersTimeout: REQUEST_TIMEOUT_MS, bodyTimeout: REQUEST_TIMEOUT_MS })
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  const path = `/api/v1/app/${plan.appId}/msg/`
  /** @returns seconds to wait where the service says so */
  const publish = async (): Promise<number> => {
    const message = answers.used++
    const body = `{"eventType":"bench.event","eventId":"${plan.run}-${message}","payload":${buildPayload(plan.run, message, PAYLOAD_BYTES)}}`
    try {
      const response = await pool.request({ method: 'POST', path, headers, body })
      await response.body.dump()
      if (response.statusCode === 202) {
        answers.accepted[message] = 1
        answers.acceptedCount++
        return 0
      }
      if (response.statusCode !== 429) throw new Error(`answered ${response.statusCode}`)
      const retryAfterS = Number(response.headers['retry-after'])
      answers.refused++
      if (retryAfterS > 0) answers.refusedWithRetryAfter++
      return retryAfterS || 1
    } catch (error) {
      answers.failed++
      answers.firstError ??= reasonOf(error)
      return 1
    }
  }
  const endMs = nowMs() + plan.minutes * 60_000
  const goesOn = () => nowMs() < endMs && answers.used < plan.messagesMax
  const publisher = async () => {
    while (goesOn()) {
      const waitS = await publish()
      if (waitS > 0) await delay(waitS * 1000)
    }
  }
  const loads = [...Array.from({ length: plan.publishers }, publisher), sendBursts(plan.burst, goesOn, publish)]
  return { answers, done: Promise.all(loads).then(() => pool.destroy()) }
}

/** At their times, whatever the answers: these publishers do not wait for each other, and do not obey Retry-After. */
async function sendBursts({ ratePerS, seconds, everyS }: Burst, goesOn: () => boolean, publish: () => Promise<unknown>): Promise<void> {
  const pending = new Set<Promise<unknown>>()
  const startMs = nowMs()
  let sent = 0
  while (goesOn()) {
    const atS = (nowMs() - startMs) / 1000
    const before = Math.floor(atS / everyS) * seconds
    const due = Math.floor(ratePerS * (before + Math.min(seconds, atS % everyS)))
    for (; sent < due && goesOn(); sent++) {
      const one = publish()
      pending.add(one)
      void one.finally(() => pending.delete(one))
    }
    await delay(TURN_MS)
  }
  await Promise.all(pending)
}
