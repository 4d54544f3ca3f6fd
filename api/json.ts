/** What TypeScript does not declare yet: https://github.com/tc39/proposal-json-parse-with-source */
interface JsonWithSource {
  parse(text: string, reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown): unknown
  rawJSON(text: string): { readonly rawJSON: string }
  isRawJSON(value: unknown): value is { readonly rawJSON: string }
}

const json = JSON as unknown as JsonWithSource

/** Whether a text may have numbers that JavaScript rounds: quick, and true too often. */
const MAY_ROUND = /\d[\d.]{15}|[eE]\+?\d{3}/

/** Numbers up to this length are the same when they are written again. */
const EXACT_CHARS = 15

function isRounded(value: number, source: string): boolean {
  return !Number.isFinite(value) || (source.length > EXACT_CHARS && String(value) !== source)
}

/**
 * Parses JSON. Numbers that JavaScript would round (64-bit ids, above all) become objects that `JSON.stringify` writes as
 * they were.
 * @throws {SyntaxError}
 */
export function parseKeepingNumbers(text: string): unknown {
  return MAY_ROUND.test(text) ? parseWithSources(text) : JSON.parse(text)
}

function parseWithSources(text: string): unknown {
  const value = json.parse(text, (_key, item, { source }) =>
    typeof item === 'number' && source !== undefined && isRounded(item, source) ? json.rawJSON(source) : item,
  )
  return rounded(value)
}

/** The members that carry payloads. */
const PAYLOADS = new Set(['payload', 'data'])

/**
 * Parses the body of a request: as `parseKeepingNumbers`, in payloads alone. Elsewhere numbers are numbers, which schemas check.
 * @throws {SyntaxError}
 */
export function parseBodyText(text: string): unknown {
  return MAY_ROUND.test(text) ? roundedBesidePayloads(parseWithSources(text)) : JSON.parse(text)
}

function rounded(value: unknown): unknown {
  return json.isRawJSON(value) ? Number(value.rawJSON) : value
}

function roundedBesidePayloads(value: unknown): unknown {
  if (json.isRawJSON(value)) return rounded(value)
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map(roundedBesidePayloads)
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [key, PAYLOADS.has(key) ? rounded(item) : roundedBesidePayloads(item)]),
  )
}
