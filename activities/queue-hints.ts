/** Tells drains that wait at a queue that something was added to it. */
export interface QueueHints {
  tell(hint: { readonly endpointId: string; readonly added: number }): void
  /** @returns after so many were added, or the time has passed, whichever is first */
  wait(endpointId: string, ms: number, signal: AbortSignal, many?: number): Promise<void>
}

export function createQueueHints(): QueueHints {
  const waiting = new Map<string, (added: number) => void>()
  return {
    tell: ({ endpointId, added }) => waiting.get(endpointId)?.(added),
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
