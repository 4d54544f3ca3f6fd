import { join } from 'node:path'
import { destination, pino, type Logger } from 'pino'

export interface ServiceLog {
  readonly log: Logger
  /** Writes what is still buffered. */
  flush(): void
}

/** The log of a role that runs alone: JSON lines on stdout. */
export function createLog(level: string): ServiceLog {
  return logTo(destination({ dest: 1, sync: false }), level)
}

/** The log of `npm start`, whose stdout is for its user: `tidings.log` in the data directory. */
export function createFileLog(dataDir: string, level: string): ServiceLog & { readonly file: string } {
  const file = join(dataDir, 'tidings.log')
  return { ...logTo(destination({ dest: file, sync: false, mode: 0o600 }), level), file }
}

function logTo(stream: ReturnType<typeof destination>, level: string): ServiceLog {
  return {
    log: pino({ level, base: {} }, stream),
    flush() {
      try {
        stream.flushSync()
      } catch {
        // Not open yet: nothing was written.
      }
    },
  }
}
