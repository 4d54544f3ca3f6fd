import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { prepareNamespace } from '../../cli/embedded/namespace.ts'
import { findTemporal } from '../../cli/embedded/temporal-program.ts'
import { startTemporal } from '../../cli/embedded/temporal.ts'
import { createProgress } from '../../cli/progress.ts'
import { readConfig } from '../../config/index.ts'
import { createScratch } from './scratch.ts'

export interface TestTemporal {
  /** host:port */
  readonly address: string
  /** Of this call alone, with the search attributes. */
  readonly namespace: string
  /** The `temporal` program, for tests that use its commands. */
  readonly program: string
}

interface Server {
  readonly address: string
  readonly program: string
}

let server: Promise<Server> | undefined

/** A fresh namespace on the server that `npm test` started, else on one of this process, which ends with it. */
export async function startTestTemporal(): Promise<TestTemporal> {
  const { address, program } = await (server ??= sharedServer())
  const namespace = `test-${randomBytes(6).toString('hex')}`
  await prepareNamespace(address, namespace)
  return { address, namespace, program }
}

/** A server of the test's own that serves what it measures, stopped by `stop`. */
export async function startMeasuredTemporal(metricsPort: number): Promise<TestTemporal & { stop(): Promise<void> }> {
  const scratch = createScratch('temporal')
  const program = await temporalProgram(scratch.path)
  const server = await startTemporal({ program, dataDir: scratch.path, namespace: 'tidings-test', port: 0, uiPort: 0, metricsPort })
  const stop = async () => {
    await server.stop()
    scratch.remove()
  }
  return { address: server.address, namespace: 'tidings-test', program, stop }
}

async function temporalProgram(dataDir: string): Promise<string> {
  const known = process.env['TIDINGS_TEST_TEMPORAL_PROGRAM']
  return known ?? findTemporal({ cacheDir: readConfig().cacheDir, dataDir }, createProgress())
}

async function sharedServer(): Promise<Server> {
  const address = process.env['TIDINGS_TEST_TEMPORAL']
  const program = process.env['TIDINGS_TEST_TEMPORAL_PROGRAM']
  if (address !== undefined && program !== undefined) return { address, program }
  const scratch = createScratch('temporal')
  const found = await temporalProgram(scratch.path)
  const temporal = await startTemporal({ program: found, dataDir: scratch.path, namespace: 'tidings-test', port: 0, uiPort: 0 })
  process.once('exit', () => {
    process.kill(temporal.pid, 'SIGKILL')
    rmSync(scratch.path, { recursive: true, force: true, maxRetries: 3 })
  })
  return { address: temporal.address, program: found }
}
