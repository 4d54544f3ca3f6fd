import { parseArgs, type ParseArgsOptionsConfig } from 'node:util'
import { ConfigError } from '../config/index.ts'
import { CommandFailure, reasonOf } from './failure.ts'

export interface Command {
  readonly help: string
  /** @returns the exit code */
  main(args: readonly string[]): Promise<number>
}

/**
 * Runs a command to its end and ends the process: its exit code, or 1 with one clear line on stderr where it fails in an
 * expected way. What is a bug shows its stack.
 */
export async function runCommand(command: Command): Promise<never> {
  const args = process.argv.slice(2)
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(`${command.help}\n`)
    process.exit(0)
  }
  let code = 1
  try {
    code = await command.main(args)
  } catch (error) {
    process.stderr.write(`tidings: ${describe(error)}\n`)
  }
  // Whatever still holds the event loop has been stopped or is not ours to wait for.
  process.exit(code)
}

/** One line for what a user can mend; the stack for what only we can. */
export function describe(error: unknown): string {
  if (error instanceof CommandFailure) return error.message
  if (error instanceof ConfigError) return `wrong settings: ${reasonOf(error)}`
  if (isCoded(error)) return reasonOf(error)
  return error instanceof Error ? (error.stack ?? reasonOf(error)) : String(error)
}

/** Our own errors (SchemaTooNewError …) carry lower-case codes; the system's (EACCES) speak for themselves too. */
function isCoded(error: unknown): boolean {
  return error instanceof Error && typeof (error as { code?: unknown }).code === 'string'
}

/** @throws {CommandFailure} `usage`, naming the option that is wrong */
export function readOptions<T extends ParseArgsOptionsConfig>(args: readonly string[], options: T) {
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: false }).values
  } catch (cause) {
    throw new CommandFailure('usage', `${reasonOf(cause)} (--help shows the options)`, { cause })
  }
}
