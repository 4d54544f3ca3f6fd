import { setTimeout as pause } from 'node:timers/promises'
import { adoptBatch } from '../storage/batches.ts'
import { releaseTurn, takeTurn, touchTurn, type Turn } from '../storage/mailbox-queue.ts'
import type { Pool } from '../storage/pool.ts'

/** Nothing is sent later than this after the turn was last seen to be held. */
export const SEND_WITHIN_MS = 5000
const TOUCH_EVERY_MS = 2000

/** The right to send from a queue, as one drain has it. */
export interface HeldTurn {
  readonly turn: Turn
  /** Somebody else has taken it: nothing more may be sent. */
  readonly lost: boolean
  /**
   * Runs a statement that answers undefined where the turn is lost. What it answers is as old as its beginning: from then on
   * requests may start for 5 seconds.
   */
  check<T>(statement: (turn: Turn) => Promise<T | undefined>): Promise<T | undefined>
  /** Whether a request may start now, by both clocks: one goes on while the process is stopped, the other while the machine is. */
  mayStart(): boolean
  /** Says that nothing more is sent. Without it the next drain waits. */
  release(): Promise<void>
}

/** Takes the turn, and what was in flight of a batch. Where nobody has said that the drain before sends nothing more, waits until it cannot send any more. */
export async function holdTurn(pool: Pool, endpointId: string, signal: AbortSignal): Promise<HeldTurn> {
  const { turn, clean } = await takeTurn(pool, endpointId)
  await adoptBatch(pool, turn)
  if (!clean) await pause(SEND_WITHIN_MS, undefined, { signal }).catch(() => undefined)
  let lost = false
  let checkedAt = { wallMs: 0, monotonicMs: -Infinity }
  let touchedAtMs = Date.now()
  const touch = () => {
    if (Date.now() < touchedAtMs + TOUCH_EVERY_MS) return
    touchedAtMs = Date.now()
    touchTurn(pool, turn).catch(() => undefined)
  }
  return {
    turn,
    get lost() {
      return lost
    },
    async check(statement) {
      const now = { wallMs: Date.now(), monotonicMs: performance.now() }
      const answer = await statement(turn)
      if (answer === undefined) lost = true
      else checkedAt = now
      touch()
      return answer
    },
    mayStart: () =>
      !lost && performance.now() - checkedAt.monotonicMs < SEND_WITHIN_MS && Math.abs(Date.now() - checkedAt.wallMs) < SEND_WITHIN_MS,
    release: () => (lost ? Promise.resolve() : releaseTurn(pool, turn)),
  }
}
