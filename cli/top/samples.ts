/** One line of what a process serves for Prometheus. */
export interface Sample {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
  readonly value: number
}

const LINE = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g
const ESCAPES: Readonly<Record<string, string>> = { '\\n': '\n', '\\"': '"', '\\\\': '\\' }

/** Reads the text format; what is no sample (comments, timestamps) is left out. */
export function parseMetrics(text: string): Sample[] {
  return text.split('\n').flatMap((line) => {
    const [, name, labels = '', value] = LINE.exec(line) ?? []
    if (name === undefined || line.startsWith('#')) return []
    const read = [...labels.matchAll(LABEL)].map(([, key, raw]) => [key!, raw!.replaceAll(/\\[n"\\]/g, (escape) => ESCAPES[escape]!)])
    return [{ name, labels: Object.fromEntries(read) as Record<string, string>, value: numberOf(value!) }]
  })
}

function numberOf(text: string): number {
  return text === '+Inf' ? Infinity : text === '-Inf' ? -Infinity : Number(text)
}
