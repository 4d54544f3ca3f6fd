/** What a number that somebody wrote may be. */
export interface FigureRule {
  readonly min: number
  readonly max: number
  /** Whether it has to be a whole number. */
  readonly whole?: boolean
}

export interface FigureProblem {
  readonly name: string
  /** What is wrong, to follow the name: `must be from 1 to 10, not 11`. */
  readonly text: string
}

/**
 * Reads named numbers, each by its rule.
 * @param given what a file or the options hold; anything
 * @param others names that may be there besides
 * @returns every number, or every problem
 */
export function readFigures<Name extends string>(
  rules: Readonly<Record<Name, FigureRule>>,
  given: unknown,
  others: readonly string[] = [],
): { readonly values: Readonly<Record<Name, number>> } | { readonly problems: readonly FigureProblem[] } {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    return { problems: [{ name: '', text: 'must be an object of names and numbers' }] }
  }
  const entries = given as Readonly<Record<string, unknown>>
  const names = Object.keys(rules) as Name[]
  const problems = names.flatMap((name) => problemOf(name, rules[name], entries[name]))
  const known = new Set<string>([...names, ...others])
  for (const name of Object.keys(entries)) {
    if (!known.has(name)) problems.push({ name, text: `is not known; known are ${names.join(', ')}` })
  }
  if (problems.length > 0) return { problems }
  return { values: Object.fromEntries(names.map((name) => [name, entries[name]])) as Record<Name, number> }
}

function problemOf(name: string, { min, max, whole = false }: FigureRule, value: unknown): FigureProblem[] {
  if (value === undefined) return [{ name, text: 'is missing' }]
  if (typeof value !== 'number' || Number.isNaN(value)) return [{ name, text: `must be a number, not ${JSON.stringify(value)}` }]
  if (value < min || value > max) return [{ name, text: `must be from ${min} to ${max}, not ${value}` }]
  if (whole && !Number.isInteger(value)) return [{ name, text: `must be a whole number, not ${value}` }]
  return []
}
