/** Arrivals in each second after `fromMs`, up to the last one. */
export function perSecond(atMs: readonly number[], fromMs: number): number[] {
  const seconds: number[] = []
  for (const ms of atMs) {
    const second = Math.floor((ms - fromMs) / 1000)
    if (second < 0) continue
    while (seconds.length <= second) seconds.push(0)
    seconds[second]!++
  }
  return seconds
}

/** The most arrivals in any second, wherever it begins. */
export function mostInASecond(atMs: readonly number[]): number {
  const sorted = atMs.toSorted((a, b) => a - b)
  let most = 0
  let from = 0
  sorted.forEach((ms, i) => {
    while (sorted[from]! <= ms - 1000) from++
    most = Math.max(most, i - from + 1)
  })
  return most
}

/** A line for each second. */
export function plot(seconds: readonly number[]): string {
  const widest = Math.max(...seconds, 1)
  return seconds
    .map((count, second) => `${String(second).padStart(3)} s ${String(count).padStart(5)}  ${'#'.repeat(Math.ceil((count / widest) * 60))}`)
    .join('\n')
}
