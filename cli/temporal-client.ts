import { Client, Connection } from '@temporalio/client'
import type { Config } from '../config/index.ts'
import type { TemporalAccess } from '../config/temporal.ts'
import { CommandFailure } from './failure.ts'

const CONNECT_WITHIN_MS = 20_000

/**
 * A connection that answers. The caller closes it.
 * @throws {CommandFailure} `temporal_failed`
 */
export async function connectTo(address: string, access?: TemporalAccess): Promise<Connection> {
  // `Connection.connect` leaves what it could not connect open, and trying.
  const connection = Connection.lazy({ address, connectTimeout: CONNECT_WITHIN_MS, ...access })
  try {
    await connection.ensureConnected()
    return connection
  } catch (cause) {
    await connection.close()
    const text = `Temporal does not answer at ${address}: start it, or set TEMPORAL_ADDRESS to where it is`
    throw new CommandFailure('temporal_failed', text, { cause })
  }
}

/**
 * A client of the Temporal that is named, else of the one that `npm start` runs here. Close its connection.
 * @throws {CommandFailure} `temporal_failed`
 */
export async function connectTemporal(config: Config): Promise<{ readonly client: Client; close(): Promise<void> }> {
  const address = config.temporalAddress ?? `127.0.0.1:${config.temporalPort}`
  const connection = await connectTo(address, config.temporalAccess)
  return { client: new Client({ connection, namespace: config.temporalNamespace }), close: () => connection.close() }
}
