import { drawSvg, type Bars, type Lines, type Spread } from '../svg.ts'
import { tablesOf, type PlanReport, type Table } from './report.ts'

/** The plan for a terminal. */
export function formatText(report: PlanReport): string {
  const parts = [
    `Unit costs: ${report.costs.source}. Prices: ${report.prices.source}, ${report.prices.currency}.`,
    ...tablesOf(report).map(textTable),
    ...report.advice.map((one) => `- ${one}`),
    'Where the request contradicts itself:',
    ...report.request.contradictions.map(({ about, says, follows }) => `- ${about}: ${says}; ${follows}.`),
  ]
  return `${parts.join('\n\n')}\n`
}

function textTable({ title, columns, rows }: Table): string {
  const all = [columns, ...rows]
  const widths = columns.map((_, i) => Math.max(...all.map((row) => row[i]!.length)))
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join('  ')
      .trimEnd()
  return [title, ...all.map(line)].join('\n')
}

const STYLE = `:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.2rem .7rem;border-bottom:1px solid #8b949e55;text-align:right}
td:first-child,th:first-child{text-align:left;white-space:pre}svg{max-width:100%;height:auto}`

/** One page without anything to load: tables, and the plots as SVG. */
export function formatHtml(report: PlanReport): string {
  const { input, costs, prices, advice, request } = report
  const about = `${input.webhooks.toLocaleString('en-US')} webhooks, ${input.eventsPerDay.toLocaleString('en-US')} events a day, ${input.fanOut} deliveries each, payloads of ${input.payloadBytes} bytes, peak ${input.peakFactor} times the day, answers after ${input.latencyMs} ms, kept ${input.retentionDays} days`
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"/><title>Tidings: capacity plan</title><style>${STYLE}</style></head><body>
<h1>Capacity plan</h1>
<p>${escape(about)}. Unit costs: ${escape(costs.source)}. Prices: ${escape(prices.source)}, ${prices.currency}.</p>
${plotsOf(report)}
${tablesOf(report).map(htmlTable).join('\n')}
<h2>Advice</h2>
<ul>${advice.map((one) => `<li>${escape(one)}</li>`).join('')}</ul>
<h2>Where the request contradicts itself</h2>
<ul>${request.contradictions.map(({ about: of, says, follows }) => `<li><b>${escape(of)}</b>: ${escape(says)}; ${escape(follows)}.</li>`).join('')}</ul>
</body></html>
`
}

function htmlTable({ title, columns, rows }: Table): string {
  const row = (cells: readonly string[], tag: 'td' | 'th') => `<tr>${cells.map((cell) => `<${tag}>${escape(cell)}</${tag}>`).join('')}</tr>`
  return `<h2>${escape(title)}</h2>\n<table>${row(columns, 'th')}${rows.map((cells) => row(cells, 'td')).join('')}</table>`
}

const PARTS = ['workers', 'apis', 'temporal', 'database', 'storage', 'network'] as const
const PART_NAMES = ['workers', 'API', 'Temporal', 'Postgres', 'storage', 'egress']

/** What each part costs in each year, all of it beside the request's unit costs, and the size of the fleet. */
function plotsOf({ years, request }: PlanReport): string {
  const labels = years.map(({ year }) => `year ${year}`)
  const parts: Bars = {
    title: 'USD a month, by part',
    series: PART_NAMES,
    groups: years.map(({ cost }, i) => ({ label: labels[i]!, values: PARTS.map((part) => only(cost[part])) })),
  }
  const together: Bars = {
    title: "USD a month: Tidings, without autoscaling, and by the request's unit costs",
    series: ['Tidings', 'without autoscaling', "request's unit costs"],
    groups: years.map(({ cost }, i) => ({
      label: labels[i]!,
      values: [only(cost.total), only(cost.withoutScaling), only(request.atThisLoad[i]!.monthly)],
    })),
  }
  const rates: Lines = {
    title: 'workers by deliveries a second: at the rate of the day, at the peak',
    xLabel: 'deliveries a second',
    logarithmic: false,
    lines: [
      { name: 'of the day', points: years.map(({ average }) => [average.deliveriesPerS, average.workers]) },
      { name: 'at the peak', points: years.map(({ peak }) => [peak.deliveriesPerS, peak.workers]) },
    ],
  }
  return drawSvg('', years.length > 1 ? [parts, together, rates] : [parts, together])
}

function only(value: number): Spread {
  const shown = Math.round(value)
  return { low: shown, median: shown, high: shown }
}

function escape(content: string): string {
  return content.replace(/[&<>"]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign] ?? sign)
}
