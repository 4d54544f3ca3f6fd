import { CommandFailure } from './failure.ts'

const UNITS_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/**
 * @param text how long ago, as 90s, 30m, 12h or 7d, or a time in ISO 8601
 * @param maxDays how far back it may be
 * @throws {CommandFailure} `usage`, naming the option
 */
export function instantOf(option: string, text: string, nowMs: number, maxDays: number): Date {
  const [, count, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? []
  const atMs = count === undefined ? Date.parse(text) : nowMs - Number(count) * UNITS_MS[unit!]!
  const fail = (why: string) => new CommandFailure('usage', `${option} ${text}: ${why} (--help shows the options)`)
  if (Number.isNaN(atMs)) throw fail('must be a time such as 90m, 12h, 7d or 2026-11-23T09:00:00Z')
  if (atMs < nowMs - maxDays * UNITS_MS['d']!) throw fail(`goes back ${maxDays} days at most`)
  return new Date(atMs)
}

/**
 * @param text as 90s, 30m, 12h or 7d
 * @returns milliseconds
 * @throws {CommandFailure} `usage`, naming the option
 */
export function durationOf(option: string, text: string): number {
  const [, count, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? []
  if (count === undefined)
    throw new CommandFailure('usage', `${option} ${text}: must be a time such as 90s or 5m (--help shows the options)`)
  return Number(count) * UNITS_MS[unit!]!
}
