import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { TestTemporal } from './temporal.ts'

const run = promisify(execFile)

/** Runs the real `temporal` command against the test's namespace and gives what it printed. */
export async function temporalCli(temporal: TestTemporal, ...args: string[]): Promise<string> {
  const { stdout } = await run(temporal.program, [...args, '--address', temporal.address, '--namespace', temporal.namespace], {
    env: { ...process.env, NO_COLOR: '1' },
  })
  return stdout
}

/** The same with JSON output. */
export async function temporalJson<T>(temporal: TestTemporal, ...args: string[]): Promise<T> {
  return JSON.parse(await temporalCli(temporal, ...args, '--output', 'json')) as T
}
