import { STATUS_SUCCESS } from '../domain/outcome.ts'
import type { RestClient } from './rest.ts'

const PAGE = 250

export interface Receiver {
  readonly name: string
  readonly endpointId: string
}

/** One demonstration. */
export interface Run {
  readonly rest: RestClient
  readonly appId: string
  readonly receivers: readonly Receiver[]
  /** When each message was accepted, by its id, Unix ms. */
  readonly published: Map<string, number>
  /** Messages to publish. */
  readonly total: number
}

interface Attempt {
  readonly msgId: string
  readonly endpointId: string
  readonly status: number
  readonly timestamp: string
  readonly responseDurationMs: number
}

interface DeadLetter {
  readonly msgId: string
  readonly endpointId: string
}

interface Page<T> {
  readonly data: T[]
  readonly iterator: string | null
  readonly done: boolean
}

async function readAll<T>(rest: RestClient, path: string): Promise<T[]> {
  const all: T[] = []
  let iterator: string | null = null
  for (;;) {
    const from: string = iterator === null ? '' : `&iterator=${encodeURIComponent(iterator)}`
    const page: Page<T> = await rest.get<Page<T>>(`${path}?limit=${PAGE}${from}`)
    all.push(...page.data)
    iterator = page.iterator
    if (page.done || iterator === null) return all
  }
}

/** Every attempt of the demonstration so far. */
export async function readAttempts(run: Run): Promise<Attempt[]> {
  const pages = run.receivers.map(({ endpointId }) => readAll<Attempt>(run.rest, `/app/${run.appId}/attempt/endpoint/${endpointId}`))
  return (await Promise.all(pages)).flat()
}

export function readDeadLetters(run: Run): Promise<DeadLetter[]> {
  return readAll<DeadLetter>(run.rest, `/app/${run.appId}/dead-letter`)
}

interface Tally {
  readonly name: string
  readonly delivered: number
  readonly attempts: number
  readonly retries: number
  readonly deadLettered: number
  /** From the publish to the first attempt's answer, sorted. */
  readonly firstAnswersMs: readonly number[]
}

function tallyOf(run: Run, receiver: Receiver, attempts: readonly Attempt[], deadLetters: readonly DeadLetter[]): Tally {
  const mine = attempts.filter(({ endpointId }) => endpointId === receiver.endpointId)
  const firsts = new Map<string, number>()
  for (const { msgId, timestamp, responseDurationMs } of mine) {
    const answeredAtMs = Date.parse(timestamp) + responseDurationMs
    firsts.set(msgId, Math.min(firsts.get(msgId) ?? Infinity, answeredAtMs - (run.published.get(msgId) ?? answeredAtMs)))
  }
  return {
    name: receiver.name,
    delivered: new Set(mine.filter(({ status }) => status === STATUS_SUCCESS).map(({ msgId }) => msgId)).size,
    attempts: mine.length,
    retries: mine.length - firsts.size,
    deadLettered: deadLetters.filter(({ endpointId }) => endpointId === receiver.endpointId).length,
    firstAnswersMs: [...firsts.values()].sort((a, b) => a - b),
  }
}

const tallies = (run: Run, attempts: readonly Attempt[], deadLetters: readonly DeadLetter[]) =>
  run.receivers.map((receiver) => tallyOf(run, receiver, attempts, deadLetters))

/** One line, and whether every delivery has been delivered or dead-lettered. */
export function progressOf(run: Run, attempts: readonly Attempt[], deadLetters: readonly DeadLetter[]) {
  const all = tallies(run, attempts, deadLetters)
  const sum = (pick: (tally: Tally) => number) => all.reduce((total, tally) => total + pick(tally), 0)
  const delivered = sum((tally) => tally.delivered)
  const deadLettered = sum((tally) => tally.deadLettered)
  const wanted = run.total * run.receivers.length
  return {
    line: `published ${run.published.size} of ${run.total}, of ${wanted} deliveries ${delivered} delivered, ${deadLettered} dead-lettered; ${attempts.length} attempts`,
    isOver: delivered + deadLettered >= wanted,
  }
}

function quantile(sorted: readonly number[], share: number): string {
  const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]
  return value === undefined ? '-' : `${Math.round(value)} ms`
}

/** What became of everything, by receiver. */
export function table(run: Run, attempts: readonly Attempt[], deadLetters: readonly DeadLetter[]): string {
  const rows = [
    ['receiver', 'delivered', 'attempts', 'retries', 'dead-lettered', 'p50', 'p99'],
    ...tallies(run, attempts, deadLetters).map((tally) => [
      tally.name,
      ...[tally.delivered, tally.attempts, tally.retries, tally.deadLettered].map(String),
      quantile(tally.firstAnswersMs, 0.5),
      quantile(tally.firstAnswersMs, 0.99),
    ]),
  ]
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const lines = rows.map((row) =>
    row.map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!))).join('  '),
  )
  return `${lines.join('\n')}\n(p50 and p99: from the publish to the first attempt's answer)`
}
