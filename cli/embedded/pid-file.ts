import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { birthOf, commandOf, isRunning, stopProcess, type StopStep } from './process-table.ts'

/** Names a server that runs, so that the next start can stop what a killed run left behind. */
export function writePidFile(file: string, pid: number): void {
  writeFileSync(file, `${pid} ${birthOf(pid)}\n`)
}

/**
 * Stops the server that a pid file names where it still runs, and removes the file. A process that has its pid by now is
 * left alone.
 * @param named what the server's command line holds
 */
export async function stopLeftover(file: string, named: string, steps: readonly StopStep[]): Promise<void> {
  let recorded: string
  try {
    recorded = readFileSync(file, 'utf8').trim()
  } catch {
    return
  }
  const pid = Number(recorded.split(' ')[0])
  const isOurs = pid > 0 && isRunning(pid) && recorded === `${pid} ${birthOf(pid)}` && commandOf(pid).includes(named)
  if (isOurs) await stopProcess(pid, steps)
  rmSync(file, { force: true })
}
