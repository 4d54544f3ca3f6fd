import { execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { readConfig } from '../../config/index.ts'

/** Why a test of the chart skips. */
export const NO_PROGRAM = 'is neither on the path nor built by .ci/run'

/** Programs of Kubernetes that `.ci/run` builds beside the other downloads, or that are on the path. @returns undefined where it is neither */
export function kubernetesProgram(name: 'helm' | 'kubectl-validate' | 'kube-apiserver' | 'etcd'): string | undefined {
  return builtProgram('kubernetes', name)
}

/** What resolves compose files. @returns undefined where `.ci/run` has not built it, and it is not on the path */
export function composeProgram(): string | undefined {
  return builtProgram('compose', 'compose-config')
}

function builtProgram(folder: string, name: string): string | undefined {
  const built = join(readConfig().cacheDir ?? join(homedir(), '.cache', 'tidings'), folder, name)
  if (existsSync(built)) return built
  try {
    return execFileSync('sh', ['-c', 'command -v "$0"', name], { encoding: 'utf8' }).trim()
  } catch {
    return undefined
  }
}

/** Runs one of them. @param input what it reads from stdin @param options where, and with which variables; absent: as this process */
export function runProgram(
  program: string,
  args: readonly string[],
  input = '',
  options: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], ...options })
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()))
  child.stdin.end(input)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, stdout, stderr }))
  })
}
