/** Plots as SVG, readable on light and dark backgrounds. */

export interface Bars {
  readonly title: string
  /** What is drawn side by side, in this order; the first is drawn the strongest. */
  readonly series: readonly string[]
  /** `values` has a place for each of the series; undefined leaves it empty. Not negative. */
  readonly groups: readonly { readonly label: string; readonly values: readonly (Spread | undefined)[] }[]
}

export interface Spread {
  readonly low: number
  readonly median: number
  readonly high: number
}

export interface Lines {
  readonly title: string
  readonly xLabel: string
  /** Whether equal steps to the right are equal factors; then every x is over 0. */
  readonly logarithmic: boolean
  readonly lines: readonly { readonly name: string; readonly points: readonly (readonly [x: number, y: number])[] }[]
}

const WIDTH = 760
const PANEL = 250
const LEFT = 70
const RIGHT = 20
const TOP = 50
const BOTTOM = 40
const PLOT_WIDTH = WIDTH - LEFT - RIGHT
const PLOT_HEIGHT = PANEL - TOP - BOTTOM
const TICKS = 4
const COLOURS = ['#2f81f7', '#d9822b', '#8b949e', '#2da44e', '#bf4b8a', '#8957e5']
const STYLE = `text{font:12px system-ui,sans-serif;fill:#57606a}.title{font-weight:600;fill:#24292f}
.axis{stroke:#8b949e;stroke-width:1}.grid{stroke:#8b949e;stroke-opacity:.25}.range{stroke:#57606a;stroke-width:1}
@media(prefers-color-scheme:dark){text{fill:#a5adb6}.title{fill:#e6edf3}.range{stroke:#c9d1d9}}`

/** One document with the plots below each other. */
export function drawSvg(heading: string, plots: readonly (Bars | Lines)[]): string {
  const height = 30 + plots.length * PANEL
  const panels = plots.map(
    (plot, i) => `<g transform="translate(0 ${30 + i * PANEL})">${'lines' in plot ? drawLines(plot) : drawBars(plot)}</g>`,
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}">
<style>${STYLE}</style>
${text(10, 20, heading, 'class="title"')}
${panels.join('\n')}
</svg>
`
}

function drawBars({ title, series, groups }: Bars): string {
  const values = groups.flatMap((group) => group.values.flatMap((one) => one?.high ?? []))
  const top = niceTop(Math.max(0, ...values))
  const y = (value: number) => TOP + PLOT_HEIGHT * (1 - value / top)
  const step = PLOT_WIDTH / Math.max(1, groups.length)
  const width = (step * 0.8) / Math.max(1, series.length)
  const parts = [frame(title, series, top)]
  for (const [i, group] of groups.entries()) {
    const left = LEFT + step * (i + 0.1)
    parts.push(text(left + step * 0.4, PANEL - BOTTOM + 16, group.label, 'text-anchor="middle"'))
    for (const [j, value] of group.values.entries()) {
      if (value === undefined) continue
      const x = left + j * width
      const middle = fixed(x + width * 0.45)
      parts.push(
        `<rect x="${fixed(x)}" y="${fixed(y(value.median))}" width="${fixed(width * 0.9)}" height="${fixed(PANEL - BOTTOM - y(value.median))}" fill="${colour(j)}"><title>${escape(`${group.label}, ${series[j]}: ${value.low} / ${value.median} / ${value.high}`)}</title></rect>`,
        `<line class="range" x1="${middle}" x2="${middle}" y1="${fixed(y(value.low))}" y2="${fixed(y(value.high))}"/>`,
      )
    }
  }
  return parts.join('')
}

function drawLines({ title, xLabel, logarithmic, lines }: Lines): string {
  const points = lines.flatMap((line) => line.points)
  const scale = (x: number) => (logarithmic ? Math.log10(x) : x)
  const [first, last] = [Math.min(...points.map(([x]) => scale(x))), Math.max(...points.map(([x]) => scale(x)))]
  const top = niceTop(Math.max(0, ...points.map(([, y]) => y)))
  const at = ([x, y]: readonly [number, number]) =>
    [fixed(LEFT + (PLOT_WIDTH * (scale(x) - first)) / Math.max(last - first, 1e-9)), fixed(TOP + PLOT_HEIGHT * (1 - y / top))] as const
  const names = lines.map(({ name }) => name)
  const parts = [frame(title, names, top), text(WIDTH - RIGHT, PANEL - 8, xLabel, 'text-anchor="end"')]
  const marks = logarithmic ? [...new Set(points.map(([x]) => x))] : Array.from({ length: 6 }, (_, i) => first + (i * (last - first)) / 5)
  if (points.length > 0)
    for (const x of marks) parts.push(text(Number(at([x, 0])[0]), PANEL - BOTTOM + 14, short(x), 'text-anchor="middle"'))
  for (const [i, line] of lines.entries()) {
    const places = line.points.map(at)
    parts.push(
      `<polyline fill="none" stroke="${colour(i)}" stroke-width="2" points="${places.map((place) => place.join(',')).join(' ')}"/>`,
    )
    if (logarithmic) parts.push(...places.map(([x, y]) => `<circle cx="${x}" cy="${y}" r="3" fill="${colour(i)}"/>`))
  }
  return parts.join('')
}

/** Title, legend, axes and grid. */
function frame(title: string, series: readonly string[], top: number): string {
  const parts = [text(10, 14, title, 'class="title"')]
  let x = LEFT
  for (const [i, name] of series.entries()) {
    parts.push(`<rect x="${x}" y="22" width="10" height="10" fill="${colour(i)}"/>`, text(x + 14, 31, name))
    x += 34 + name.length * 7
  }
  for (let i = 0; i <= TICKS; i++) {
    const y = fixed(TOP + PLOT_HEIGHT * (1 - i / TICKS))
    parts.push(`<line class="${i === 0 ? 'axis' : 'grid'}" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${y}" y2="${y}"/>`)
    parts.push(text(LEFT - 6, Number(y) + 4, short((top * i) / TICKS), 'text-anchor="end"'))
  }
  return parts.join('')
}

/** The next of 1, 2, 4, 8 times a power of ten. */
function niceTop(most: number): number {
  if (!(most > 0) || !Number.isFinite(most)) return 1
  const power = 10 ** Math.floor(Math.log10(most))
  return [1, 2, 4, 8, 10].map((factor) => factor * power).find((one) => one >= most) ?? 10 * power
}

function short(value: number): string {
  if (value >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`
  if (value >= 1e4) return `${Number((value / 1e3).toPrecision(3))}k`
  return String(Number(value.toPrecision(3)))
}

const colour = (i: number): string => COLOURS[i % COLOURS.length]!
const fixed = (value: number): string => value.toFixed(1)

function text(x: number, y: number, content: string, attributes = ''): string {
  return `<text x="${fixed(x)}" y="${fixed(y)}" ${attributes}>${escape(content)}</text>`
}

function escape(content: string): string {
  return content.replace(/[&<>"]/g, (sign) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[sign] ?? sign)
}
