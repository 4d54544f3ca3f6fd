/** Tells drains that wait at a queue that something was added to it. */
export interface QueueHints {
  tell(hint: { readonly endpointId: string; readonly added: number }): void
  /** @returns after so many were added, or the time has passed, whichever is first */
  wait(endpointId: string, ms: number, signal: AbortSignal, many?: number): Promise<void>
  /** Counts what is added to a queue, until it is stopped. */
  watch(endpointId: string): QueueWatch
}

export interface QueueWatch {
  readonly added: number
  stop(): void
}

export function createQueueHints(): QueueHints {
  const waiting = new Map<string, (added: number) => void>()
  const watched = new Map<string, { added: number; stop(): void }>()
  return {
    tell({ endpointId, added }) {
      const watch = watched.get(endpointId)
      if (watch !== undefined) watch.added += added
      waiting.get(endpointId)?.(added)
    },
    watch(endpointId) {
      const watch = {
        added: 0,
        stop() {
          if (watched.get(endpointId) === watch) watched.delete(endpointId)
        },
      }
      watched.set(endpointId, watch)
      return watch
    },
    wait: (endpointId, ms, signal, many = 1) =>
      new Promise((resolve) => {
        let left = many
        const finish = () => {
          clearTimeout(timer)
          signal.removeEventListener('abort', finish)
          if (waiting.get(endpointId) === count) waiting.delete(endpointId)
          resolve()
        }
        const count = (added: number) => {
          left -= added
          if (left <= 0) finish()
        }
        const timer = setTimeout(finish, ms)
        signal.addEventListener('abort', finish, { once: true })
        waiting.set(endpointId, count)
        if (signal.aborted) finish()
      }),
  }
}
