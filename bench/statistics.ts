/** In milliseconds. */
export interface Distribution {
  readonly n: number
  readonly p50_ms: number
  readonly p95_ms: number
  readonly p99_ms: number
  readonly max_ms: number
}

/** Percentiles by nearest rank. */
export function distributionOf(valuesMs: readonly number[]): Distribution {
  const sorted = Float64Array.from(valuesMs).sort()
  const at = (share: number) => rounded(sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)] ?? 0, 2)
  return { n: sorted.length, p50_ms: at(0.5), p95_ms: at(0.95), p99_ms: at(0.99), max_ms: at(1) }
}

export function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}

/** `min/median/max`; of a single value that alone. */
export function spreadOf(values: readonly number[]): string {
  if (values.length === 1) return short(values[0]!)
  return [Math.min(...values), medianOf(values), Math.max(...values)].map(short).join('/')
}

/** NaN of nothing. */
export function medianOf(values: readonly number[]): number {
  const sorted = Float64Array.from(values).sort()
  const middle = sorted.length / 2
  return sorted.length % 2 === 0 ? ((sorted[middle - 1] ?? NaN) + (sorted[middle] ?? NaN)) / 2 : sorted[Math.floor(middle)]!
}

function short(value: number): string {
  if (Number.isInteger(value)) return String(value)
  const size = Math.abs(value)
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2)
}
