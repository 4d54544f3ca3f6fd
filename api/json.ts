/** What TypeScript does not declare yet: https://github.com/tc39/proposal-json-parse-with-source */
interface JsonWithSource {
  parse(text: string, reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown): unknown
  rawJSON(text: string): { readonly rawJSON: string }
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
  if (!MAY_ROUND.test(text)) return JSON.parse(text)
  return json.parse(text, (_key, item, { source }) =>
    typeof item === 'number' && source !== undefined && isRounded(item, source) ? json.rawJSON(source) : item,
  )
}
