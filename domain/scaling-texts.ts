/** How figures are written in the reasons of decisions: the same on every machine, as reasons are kept. */

/** 12345 is `12,345`. */
export function countText(count: number): string {
  return String(Math.round(count)).replace(/\B(?=(\d{3})+$)/g, ',')
}

/** @param share 0 to 1 */
export function percentText(share: number): string {
  return `${Math.round(share * 1000) / 10} %`
}

export function durationText(ms: number): string {
  if (ms >= 120_000) return `${Math.round(ms / 6000) / 10} min`
  return ms >= 1000 ? `${Math.round(ms / 100) / 10} s` : `${Math.round(ms)} ms`
}

export function workersText(workers: number): string {
  return workers === 1 ? '1 worker' : `${countText(workers)} workers`
}
