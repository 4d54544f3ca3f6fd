import { connect } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { CommandFailure } from '../failure.ts'
import { readLog, type Child } from './child.ts'

const READY_TIMEOUT_MS = 60_000
const POLL_MS = 20

/**
 * Waits until a Temporal server that was just started listens. gRPC backs off for a second after a refused connection;
 * knocking first is quicker.
 * @param log its log, and where in it this start begins
 * @throws {CommandFailure} `temporal_failed`, with the reason that the log gives
 */
export async function waitForPort(child: Child, port: number, log: { readonly logFile: string; readonly from: number }): Promise<void> {
  const deadline = performance.now() + READY_TIMEOUT_MS
  while (!(await answers(port))) {
    if (child.hasEnded() || performance.now() > deadline) {
      const how = child.hasEnded() ? await child.ended : `no answer on port ${port} in ${READY_TIMEOUT_MS / 1000} s`
      const reason = /(?:rror: |"error":")([^"\n]+)/.exec(readLog(log.logFile, log.from))?.[1] ?? how
      throw new CommandFailure('temporal_failed', `Temporal does not start (${reason.trim()}): see ${log.logFile}`)
    }
    await delay(POLL_MS)
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' })
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
