import { chmodSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

export interface Scratch {
  readonly path: string
  remove(): void
}

/** An empty folder of the test's own, with mode 755 so that an unprivileged Postgres may work below it. */
export function createScratch(name = 'test'): Scratch {
  const path = mkdtempSync(join(tmpdir(), `tidings-${name}-`))
  chmodSync(path, 0o755)
  return { path, remove: () => rmSync(path, { recursive: true, force: true, maxRetries: 3 }) }
}
