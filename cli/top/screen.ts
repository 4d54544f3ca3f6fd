import type { EndpointFigures, Figures } from './figures.ts'

export interface ScreenOptions {
  /** Lines that there is room for. */
  readonly rows: number
  readonly colour: boolean
}

const LABEL_WIDTH = 15
const BUSY = 0.8
const HEALTHY = 0.9

/** The figures as lines of text, each with its end. */
export function screen(figures: Figures, { rows, colour }: ScreenOptions): string {
  const bad = (text: string, isBad: boolean) => (colour && isBad ? `\u001B[31m${text}\u001B[0m` : text)
  const line = (label: string, ...parts: readonly string[]) => `${label.padEnd(LABEL_WIDTH)}${parts.join('   ')}`
  const { queues } = figures
  const busiest = figures.utilisation.length === 0 ? 0 : Math.max(...figures.utilisation)
  const lines = [
    `tidings top   ${figures.at}   ${figures.processes} ${figures.processes === 1 ? 'process' : 'processes'}, over ${figures.overS} s`,
    ...figures.problems.map((problem) => bad(problem, true)),
    '',
    line('publishing', `${count(figures.accepted)}/s accepted`, `p99 ${time(figures.publishP99)}`),
    line('deliveries', `${count(figures.delivered)}/s delivered`, `${count(figures.dead)}/s dead`, `${count(figures.held)}/s held back`),
    line(
      'requests',
      `${count(figures.requests)}/s`,
      bad(`success ${percent(figures.successRate)}`, (figures.successRate ?? 1) < HEALTHY),
      `retries ${percent(figures.retryRate)}`,
    ),
    line('response time', `p50 ${time(figures.responseP50)}`, `p99 ${time(figures.responseP99)}`),
    line('first request', `p50 ${time(figures.firstRequestP50)}`, `p99 ${time(figures.firstRequestP99)}`),
    line(
      'queues',
      ...['outbox', 'mailbox_due', 'mailbox_later'].map((name) => `${name} ${count(queues[name])}`),
      `lag ${time(figures.dispatcherLag)}`,
    ),
    line('dead letters', count(figures.deadLetters)),
    line('breakers', ...['open', 'half-open', 'recovering', 'slow'].map((state) => `${state} ${count(figures.breakers[state])}`)),
    line('event loops', bad(figures.utilisation.map((one) => percent(one)).join(' '), busiest > BUSY)),
    line('places', ...Object.entries(figures.slots).map(([lane, { used, max }]) => bad(`${lane} ${used}/${max}`, used > BUSY * max))),
    line('postgres', `${count(figures.statements)} statements/s`, `p99 ${time(figures.statementP99)}`),
    line('cache hits', ...Object.entries(figures.cacheHitRate).map(([cache, rate]) => `${cache} ${percent(rate)}`)),
    '',
    row('busiest endpoints', 'req/s', 'success', 'mean', 'limited/s', 'breaker'),
    ...figures.endpoints.map((one) => bad(endpointRow(one), (one.successRate ?? 1) < HEALTHY)),
  ]
  return `${lines.slice(0, Math.max(1, rows - 1)).join('\n')}\n`
}

function endpointRow(one: EndpointFigures): string {
  const { endpoint, requests, successRate, meanResponse, rateLimitHits, breaker } = one
  return row(endpoint, count(requests), percent(successRate), time(meanResponse), count(rateLimitHits), endpoint === 'other' ? '' : breaker)
}

function row(name: string, ...cells: readonly string[]): string {
  return `${name.padEnd(32)}${cells.map((cell) => cell.padStart(11)).join('')}`
}

function count(value: number | null | undefined): string {
  if (value === null || value === undefined) return '-'
  return value >= 100 || Number.isInteger(value) ? Math.round(value).toLocaleString('en-US') : value.toFixed(1)
}

function percent(value: number | null): string {
  return value === null ? '-' : `${(value * 100).toFixed(1)} %`
}

function time(seconds: number | null): string {
  if (seconds === null) return '-'
  return seconds < 1 ? `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms` : `${seconds.toFixed(1)} s`
}
