import type { EventType } from '../../storage/event-types.ts'

type Json = Readonly<Record<string, unknown>>

const DEPTH_MAX = 6

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** What the schema itself offers as an example, in an array of one, or an empty array. */
function offered(schema: Json): readonly unknown[] {
  const first = (name: string): readonly unknown[] => (Array.isArray(schema[name]) ? schema[name].slice(0, 1) : [])
  const own = ['example', 'default', 'const'].filter((name) => schema[name] !== undefined).map((name) => schema[name])
  return [...own, ...first('examples'), ...first('enum')].slice(0, 1)
}

const BY_TYPE: Readonly<Record<string, unknown>> = { string: 'string', integer: 0, number: 0, boolean: true, null: null, array: [] }

/** An example of one part of a JSON schema: what the schema offers, else a plain value of its type. @param depth of the part */
export function exampleValue(schema: Json, depth: number): unknown {
  const given = offered(schema)
  if (given.length > 0) return given[0]
  const { properties, items } = schema
  if (isObject(properties) && depth < DEPTH_MAX) {
    const parts = Object.entries(properties).flatMap(([name, part]) =>
      isObject(part) ? [[name, exampleValue(part, depth + 1)] as const] : [],
    )
    return Object.fromEntries(parts)
  }
  if (isObject(items) && depth < DEPTH_MAX) return [exampleValue(items, depth + 1)]
  const type: unknown = Array.isArray(schema['type']) ? schema['type'][0] : schema['type']
  return typeof type === 'string' && type in BY_TYPE ? BY_TYPE[type] : {}
}

/** A payload to try an endpoint with: from the newest version of the event type's schema, else a small object. */
export function exampleOf(eventType: Pick<EventType, 'name' | 'schemas'>, now: Date): Json {
  const newest = Object.entries(eventType.schemas ?? {})
    .sort(([a], [b]) => Number(b) - Number(a) || (a < b ? 1 : -1))
    .map(([, schema]) => schema)
    .find(isObject)
  const example = newest === undefined ? undefined : exampleValue(newest, 0)
  if (isObject(example) && Object.keys(example).length > 0) return example
  return { type: eventType.name, timestamp: now.toISOString(), data: { example: true } }
}
