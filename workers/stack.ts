import type { Logger } from 'pino'

/** What has been started, to be stopped in the reverse order. */
export interface Stack {
  push(stop: () => Promise<void>): void
  /** Stops everything; a stop that fails does not keep the others from running. */
  unwind(): Promise<void>
}

export function createStack(log: Logger): Stack {
  const stops: (() => Promise<void>)[] = []
  return {
    push: (stop) => void stops.push(stop),
    async unwind() {
      for (const stop of stops.splice(0).reverse()) await stop().catch((error: unknown) => log.error({ err: error }, 'stop.failed'))
    },
  }
}
