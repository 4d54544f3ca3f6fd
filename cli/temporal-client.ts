import { Client, Connection } from '@temporalio/client'
import type { Config } from '../config/index.ts'
import { CommandFailure } from './failure.ts'

const CONNECT_WITHIN_MS = 10_000

/**
 * A client of the Temporal that is named, else of the one that `npm start` runs here. Close its connection.
 * @throws {CommandFailure} `temporal_failed`
 */
export async function connectTemporal(config: Config): Promise<{ readonly client: Client; close(): Promise<void> }> {
  const address = config.temporalAddress ?? `127.0.0.1:${config.temporalPort}`
  // `Connection.connect` leaves what it could not connect open, and trying.
  const connection = Connection.lazy({ address, connectTimeout: CONNECT_WITHIN_MS, ...config.temporalAccess })
  try {
    await connection.ensureConnected()
  } catch (cause) {
    await connection.close()
    throw new CommandFailure(
      'temporal_failed',
      `Temporal does not answer at ${address}: start it, or set TEMPORAL_ADDRESS to where it is`,
      {
        cause,
      },
    )
  }
  return { client: new Client({ connection, namespace: config.temporalNamespace }), close: () => connection.close() }
}
