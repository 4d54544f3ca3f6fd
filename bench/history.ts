import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { CommandFailure, reasonOf } from '../cli/failure.ts'
import type { Result } from './result.ts'

/** One run of the benchmark, as its file in `bench/results/` holds it. */
export interface Run {
  /** UTC, ISO 8601. */
  readonly start: string
  /** Of the code that was measured; null outside of git. */
  readonly commit: string | null
  /** Whether files that git knows had been changed since. */
  readonly dirty: boolean
  readonly node: string
  readonly cores: number
  readonly cpu: string
  readonly results: readonly Result[]
}

const ROOT = join(import.meta.dirname, '..')
export const RESULTS_FOLDER = join(ROOT, 'bench', 'results')
const FILE_NAME = /^\d{4}-\d\d-\d\dT\d{4}Z\.json$/
const FILE_MAX_BYTES = 64 * 1024 * 1024

/** Name of the files of a run, without their ending: `2026-11-25T1405Z`. */
export function nameOf(start: Date): string {
  return `${start.toISOString().slice(0, 16).replace(/:/g, '')}Z`
}

/** Where and of what a run is. */
export function describeRun(start: Date): Omit<Run, 'results'> {
  const processors = cpus()
  return {
    start: start.toISOString(),
    commit: git(ROOT, 'rev-parse', 'HEAD')?.trim() ?? null,
    dirty: (git(ROOT, 'status', '--porcelain', '--untracked-files=no') ?? '') !== '',
    node: process.version,
    cores: processors.length,
    cpu: processors[0]?.model ?? 'unknown',
  }
}

/**
 * Writes `<name>.json` and, where there is a plot, `<name>.svg`.
 * @returns the path of the JSON. @throws {CommandFailure} `usage` where the folder cannot be written
 */
export function writeFiles(folder: string, name: string, files: { readonly json: string; readonly svg?: string }): string {
  try {
    mkdirSync(folder, { recursive: true })
    for (const [ending, text] of Object.entries(files)) writeFileSync(join(folder, `${name}.${ending}`), text)
  } catch (cause) {
    throw new CommandFailure('usage', `${folder} cannot be written (${reasonOf(cause)})`, { cause })
  }
  return join(folder, `${name}.json`)
}

/** JSON with each result on a line of its own, so that two files can be compared line by line. */
export function formatRun({ results, ...about }: { readonly results: readonly unknown[] }): string {
  const head = JSON.stringify(about, null, 2).slice(0, -2)
  return `${head},\n  "results": [\n${results.map((result) => `    ${JSON.stringify(result)}`).join(',\n')}\n  ]\n}\n`
}

/** The last run whose file is committed in this folder. @returns why there is none */
export function lastCommitted(folder: string): { readonly name: string; readonly run: Run } | string {
  if (!existsSync(folder)) return `there is no ${folder}`
  const listed = git(folder, 'ls-tree', '--name-only', 'HEAD', './')
  if (listed === undefined) return `git knows no commit of ${folder}`
  const name = listed
    .split('\n')
    .filter((one) => FILE_NAME.test(one))
    .sort()
    .at(-1)
  if (name === undefined) return `no result is committed in ${folder}`
  try {
    return { name, run: JSON.parse(git(folder, 'show', `HEAD:./${name}`) ?? '') as Run }
  } catch {
    return `${name} as it is committed cannot be read`
  }
}

function git(cwd: string, ...args: readonly string[]): string | undefined {
  try {
    return execFileSync('git', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'], maxBuffer: FILE_MAX_BYTES })
  } catch {
    return undefined
  }
}
