import { setTimeout as pause } from 'node:timers/promises'

const POLL_MS = 25

/** Reads until what is read satisfies `isThere`; throws with the last reading after `timeoutMs`. */
export async function eventually<T>(read: () => Promise<T>, isThere: (value: T) => boolean, timeoutMs = 20_000): Promise<T> {
  const endMs = Date.now() + timeoutMs
  for (;;) {
    const value = await read()
    if (isThere(value)) return value
    if (Date.now() > endMs) throw new Error(`not within ${timeoutMs} ms; last seen: ${JSON.stringify(value)}`)
    await pause(POLL_MS)
  }
}
