import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { readConfig } from '../../config/index.ts'

/** Why a test that needs `pythonFolder` skips. */
export const NO_PYTHON = 'the Python programs of .ci/requirements.txt are not installed: .ci/run does it'

/** The virtual environment that `.ci/run` makes of `.ci/requirements.txt`; undefined where there is none. */
export function pythonFolder(): string | undefined {
  const folder = join(readConfig().cacheDir ?? join(homedir(), '.cache', 'tidings'), 'python')
  return existsSync(join(folder, 'bin', 'python')) ? folder : undefined
}

/** Runs one of its programs. @returns the exit code and all that it printed */
export function runPython(folder: string, program: string, args: readonly string[]): Promise<{ code: number | null; output: string }> {
  // Hypothesis, which schemathesis is built on, would otherwise keep its tables where it is started.
  const env = { ...process.env, HYPOTHESIS_STORAGE_DIRECTORY: join(folder, 'hypothesis') }
  const child = spawn(join(folder, 'bin', program), args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, output }))
  })
}
