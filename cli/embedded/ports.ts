import { createServer } from 'node:net'
import { randomInt } from 'node:crypto'
import { CommandFailure } from '../failure.ts'

// Below what systems hand out to outgoing connections, so that none of those takes the port before we do.
const FREE_FROM = 20_000
const FREE_TO = 30_000
const TRIES = 50

/** Whether this process may listen there now. */
export function isFree(port: number, host = '127.0.0.1'): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)))
  })
}

/** A port of the loopback interface that nobody listens on. */
export async function freePort(): Promise<number> {
  for (let i = 0; i < TRIES; i++) {
    const port = randomInt(FREE_FROM, FREE_TO)
    if (await isFree(port)) return port
  }
  throw new CommandFailure('port_taken', `no free port found between ${FREE_FROM} and ${FREE_TO}`)
}

/**
 * @param port the configured port; 0 takes any free one
 * @param purpose what it is for and the variable that changes it, for the message
 * @throws {CommandFailure} `port_taken`
 */
export async function claimPort(port: number, purpose: { readonly name: string; readonly variable: string }): Promise<number> {
  if (port === 0) return freePort()
  if (await isFree(port)) return port
  throw new CommandFailure(
    'port_taken',
    `port ${port} for ${purpose.name} is taken by another program: stop that, or set ${purpose.variable} to another port (0 for any free one)`,
  )
}
