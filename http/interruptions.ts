import type { Exchange } from './exchange.ts'

export interface Interruptions {
  /** Interrupts the exchange when the signal is aborted. */
  watch(exchange: Exchange, signal: AbortSignal | undefined): void
  /** The exchange has ended. */
  forget(exchange: Exchange, signal: AbortSignal | undefined): void
}

/**
 * One listener for each signal, whatever the number of requests: all requests of a process share the signal of its stop, and
 * a listener for every request costs more than the rest of its bookkeeping together.
 */
export function createInterruptions(): Interruptions {
  const watched = new WeakMap<AbortSignal, Set<Exchange>>()
  return {
    watch: (exchange, signal) => {
      if (signal !== undefined) (watched.get(signal) ?? listen(watched, signal)).add(exchange)
    },
    forget: (exchange, signal) => {
      if (signal !== undefined) watched.get(signal)?.delete(exchange)
    },
  }
}

function listen(watched: WeakMap<AbortSignal, Set<Exchange>>, signal: AbortSignal): Set<Exchange> {
  const exchanges = new Set<Exchange>()
  watched.set(signal, exchanges)
  signal.addEventListener('abort', () => [...exchanges].forEach((exchange) => exchange.interrupt()), { once: true })
  return exchanges
}
