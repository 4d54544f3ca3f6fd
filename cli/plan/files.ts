import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import {
  costsOfResults,
  readFootprint,
  readUnitCosts,
  type Footprint,
  type MeasuredResult,
  type UnitCosts,
} from '../../domain/capacity-costs.ts'
import { readPrices, type Prices } from '../../domain/capacity-prices.ts'
import type { FigureProblem } from '../../domain/figures.ts'
import { CommandFailure, reasonOf } from '../failure.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const RESULTS_FOLDER = join(ROOT, 'bench', 'results')
const RUN = /^\d{4}-\d\d-\d\dT\d{4}Z\.json$/
const FOOTPRINT = /^footprint-.+\.json$/

/** Prices that come with the repository: examples. */
export const EXAMPLE_PRICES = join(ROOT, 'deploy', 'prices.json')

export interface KnownCosts {
  readonly costs: UnitCosts
  /** For the reader: the run, or the file, that they are of. */
  readonly source: string
}

/**
 * Unit costs of a file (a run of the benchmark, or costs by name), else of the newest run in `bench/results/`. What a run does not
 * tell is that of the newest footprint there.
 * @throws {CommandFailure} `usage`, naming the file and everything that is wrong in it
 */
export function readCosts(file: string | undefined): KnownCosts {
  const path = file ?? newest(RUN, 'npm run bench')
  const option = file === undefined ? '' : '--costs '
  const content = readJson(option, path)
  const run = runOf(content)
  if (run !== undefined && !run.results.every(isMeasured)) {
    throw new CommandFailure('usage', `${option}${path}: results must be those of npm run bench (peer, scenario, f, m, delivered, cpu_s)`)
  }
  const read = run === undefined ? readUnitCosts(content) : costsOfResults(run.results as readonly MeasuredResult[], newestFootprint())
  if ('problems' in read) throw wrong(option, path, read.problems)
  const about = typeof run?.start === 'string' ? `npm run bench of ${run.start.slice(0, 16)}Z` : path
  return { costs: read.costs, source: about }
}

/** @throws {CommandFailure} `usage`, naming the file and everything that is wrong in it */
export function readPriceFile(file: string | undefined): Prices {
  const path = file ?? EXAMPLE_PRICES
  const option = file === undefined ? '' : '--prices '
  const read = readPrices(readJson(option, path))
  if ('problems' in read) throw wrong(option, path, read.problems)
  return read.prices
}

/** A run of the benchmark, as far as it looks like one. */
function runOf(content: unknown): { readonly start?: unknown; readonly results: readonly unknown[] } | undefined {
  if (typeof content !== 'object' || content === null || !('results' in content)) return undefined
  const { results } = content
  return Array.isArray(results) ? { ...content, results } : undefined
}

function isMeasured(one: unknown): one is MeasuredResult {
  if (typeof one !== 'object' || one === null) return false
  const { peer, scenario, f, m, delivered, cpu_s: cpu, cpu_s_total: total } = one as Partial<MeasuredResult>
  const numbers = [f, m, delivered, total].every((value) => typeof value === 'number')
  return numbers && typeof peer === 'string' && typeof scenario === 'string' && typeof cpu === 'object'
}

function newestFootprint(): Footprint {
  const path = newest(FOOTPRINT, 'npm run bench:footprint')
  const content = readJson('', path)
  const read = readFootprint(typeof content === 'object' && content !== null && 'footprint' in content ? content.footprint : undefined)
  if ('problems' in read) throw wrong('', path, read.problems)
  return read.footprint
}

/** The file of the newest run: names begin with the time. */
function newest(pattern: RegExp, command: string): string {
  const name = readdirSync(RESULTS_FOLDER)
    .filter((one) => pattern.test(one))
    .sort()
    .at(-1)
  if (name === undefined) throw new CommandFailure('usage', `${RESULTS_FOLDER} has no run: ${command} makes one, or name --costs`)
  return join(RESULTS_FOLDER, name)
}

function readJson(option: string, path: string): unknown {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    throw new CommandFailure('usage', `${option}${path} cannot be read (${reasonOf(cause)})`, { cause })
  }
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new CommandFailure('usage', `${option}${path} is no JSON (${reasonOf(cause)})`, { cause })
  }
}

function wrong(option: string, path: string, problems: readonly FigureProblem[]): CommandFailure {
  return new CommandFailure('usage', `${option}${path}: ${problems.map(({ name, text }) => `${name} ${text}`.trim()).join('; ')}`)
}
