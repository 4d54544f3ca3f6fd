/** Tells drains that wait at an empty queue that something was added to it. */
export interface QueueHints {
  tell(endpointId: string): void
  /** @returns after something was added, or the time has passed, whichever is first */
  wait(endpointId: string, ms: number, signal: AbortSignal): Promise<void>
}

export function createQueueHints(): QueueHints {
  const waiting = new Map<string, () => void>()
  return {
    tell: (endpointId) => waiting.get(endpointId)?.(),
    wait: (endpointId, ms, signal) =>
      new Promise((resolve) => {
        const finish = () => {
          clearTimeout(timer)
          signal.removeEventListener('abort', finish)
          if (waiting.get(endpointId) === finish) waiting.delete(endpointId)
          resolve()
        }
        const timer = setTimeout(finish, ms)
        signal.addEventListener('abort', finish, { once: true })
        waiting.set(endpointId, finish)
        if (signal.aborted) finish()
      }),
  }
}
