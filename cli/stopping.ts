// Ctrl-C reaches the foreground group, npm passes it on, and so does the bootstrap: what comes this close together is one.
const SAME_SIGNAL_MS = 1500
const FORCED_EXIT_CODE = 130

/**
 * Resolves with the first request to stop: SIGINT, SIGTERM, SIGHUP, or the end of the bootstrap that started us. A second
 * one ends the process at once; the guards of the embedded servers then stop those.
 */
export function stopRequested(): Promise<string> {
  return new Promise((resolve) => {
    let firstAtMs: number | undefined
    const request = (reason: string) => {
      if (firstAtMs === undefined) {
        firstAtMs = performance.now()
        resolve(reason)
      } else if (performance.now() - firstAtMs > SAME_SIGNAL_MS) {
        process.stderr.write('tidings: stopped by force\n')
        process.exit(FORCED_EXIT_CODE)
      }
    }
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, request)
    if (process.channel === undefined) return
    process.once('disconnect', () => request('the end of the process that started this one'))
    process.channel.unref()
  })
}

/** What has to be undone, in reverse order of its making. */
export interface Cleanup {
  add(undo: () => Promise<void> | void): void
  /** Undoes everything, each step whatever became of the one before. Never rejects. */
  run(): Promise<void>
}

export function createCleanup(report: (error: unknown) => void): Cleanup {
  const steps: (() => Promise<void> | void)[] = []
  return {
    add: (undo) => void steps.push(undo),
    async run() {
      for (let step = steps.pop(); step !== undefined; step = steps.pop()) {
        try {
          await step()
        } catch (error) {
          report(error)
        }
      }
    },
  }
}

/** `work`'s end, or `limitMs`, whichever is first. What `work` throws later is dropped. */
export async function atMost(limitMs: number, work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const limit = new Promise<void>((resolve) => (timer = setTimeout(resolve, limitMs)))
  try {
    await Promise.race([work, limit])
  } finally {
    clearTimeout(timer)
    work.catch(() => undefined)
  }
}
