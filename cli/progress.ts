/** Tells the user what is being waited for. */
export interface Progress {
  /** One line on stderr with the time since the start. */
  say(text: string): void
  /** Runs `work`, saying what is awaited: at its beginning, every 5 s, and how long it took. */
  step<T>(text: string, work: () => Promise<T>): Promise<T>
}

const REPEAT_MS = 5000

/**
 * @param write where lines go; stderr unless told, because stdout belongs to what other programs read
 * @param nowMs clock
 */
export function createProgress(
  write: (line: string) => void = (line) => process.stderr.write(line),
  nowMs: () => number = () => performance.now(),
): Progress {
  const startedAtMs = nowMs()
  const say = (text: string) => write(`${((nowMs() - startedAtMs) / 1000).toFixed(1).padStart(6)} s  ${text}\n`)
  return {
    say,
    async step(text, work) {
      const since = nowMs()
      say(text)
      const timer = setInterval(() => say(`${text} (${Math.round((nowMs() - since) / 1000)} s so far)`), REPEAT_MS)
      try {
        return await work()
      } finally {
        clearInterval(timer)
      }
    },
  }
}

/** For callers that show nothing. */
export const silentProgress: Progress = { say: () => undefined, step: (_text, work) => work() }
