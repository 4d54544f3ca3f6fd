import { setTimeout as delay } from 'node:timers/promises'

export interface PublishReport {
  /** Answered 202. */
  readonly accepted: number
  /** Answered 409: an earlier try, whose answer was lost, was accepted. */
  readonly conflicts: number
  /** Tries that ended in a connection error, a timeout or a 5xx. */
  readonly failedTries: number
  readonly slowestMs: number
}

export interface Publishing {
  /** Events answered 202 or 409 so far. */
  readonly count: () => number
  readonly done: Promise<PublishReport>
  /** From now on tries go to these APIs in turn, as a load balancer spreads them. */
  to(apiUrls: readonly string[]): void
  /** Publishes nothing new: every event whose turn has come is accepted before `done`. */
  finish(): void
  /** Gives up, whatever has been accepted. */
  stop(): void
}

export interface PublishOptions {
  readonly apiUrl: string
  readonly token: string
  readonly appId: string
  readonly events: number
  readonly concurrency: number
  /** Over all publishers; as fast as the API answers, unless set. */
  readonly perSecond?: number
}

const TRY_TIMEOUT_MS = 10_000
const RETRY_AFTER_MS = 100

/** The id under which the event is published, however often it is tried. */
export const eventIdOf = (index: number) => `event-${index}`

/** Publishers that try each event under the same `eventId` until it is accepted, as the README asks of them. */
export function publish(options: PublishOptions): Publishing {
  const report = { accepted: 0, conflicts: 0, failedTries: 0, slowestMs: 0 }
  let apiUrls: readonly string[] = [options.apiUrl]
  let tries = 0
  let next = 0
  let finishing = false
  let stopped = false
  const startedAt = performance.now()
  const publisher = async () => {
    while (next < options.events && !finishing && !stopped) {
      const index = next++
      if (options.perSecond !== undefined) await delay(Math.max(0, startedAt + (index * 1000) / options.perSecond - performance.now()))
      while (!stopped) {
        const triedAt = performance.now()
        const status = await tryOnce({ ...options, apiUrl: apiUrls[tries++ % apiUrls.length]! }, index)
        report.slowestMs = Math.max(report.slowestMs, performance.now() - triedAt)
        if (status === 202) report.accepted++
        else if (status === 409) report.conflicts++
        else if (status === 'no answer' || status >= 500) {
          report.failedTries++
          await delay(RETRY_AFTER_MS)
          continue
        } else throw new Error(`publishing ${eventIdOf(index)} was answered ${status}`)
        break
      }
    }
  }
  const done = Promise.all(Array.from({ length: options.concurrency }, publisher)).then(() => report)
  done.catch(() => undefined)
  return {
    count: () => report.accepted + report.conflicts,
    done,
    to: (urls) => void (apiUrls = urls),
    finish: () => void (finishing = true),
    stop: () => void (stopped = true),
  }
}

async function tryOnce({ apiUrl, token, appId }: PublishOptions, index: number): Promise<number | 'no answer'> {
  try {
    const response = await fetch(`${apiUrl}/api/v1/app/${appId}/msg`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({ eventType: 'chaos.tested', eventId: eventIdOf(index), payload: { index } }),
      signal: AbortSignal.timeout(TRY_TIMEOUT_MS),
    })
    await response.arrayBuffer()
    return response.status
  } catch {
    return 'no answer'
  }
}
