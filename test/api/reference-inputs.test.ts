import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { OPERATIONS, resolved, type Operation, type Parameter, type Schema } from '../reference/document.ts'
import { startApi, type Harness } from './harness.ts'
import { createRecorded } from './recorded.ts'

type Body = Readonly<Record<string, unknown>>

/** A body that each operation takes, with its required fields alone. */
const BODIES: Readonly<Record<string, () => Body>> = {
  ApplicationIn: () => ({ name: 'x' }),
  ApplicationPatch: () => ({}),
  EndpointIn: () => ({ url: 'https://example.com/' }),
  EndpointUpdate: () => ({ url: 'https://example.com/' }),
  EndpointPatch: () => ({}),
  EndpointHeadersIn: () => ({ headers: {} }),
  EndpointHeadersPatchIn: () => ({ headers: {} }),
  RecoverIn: () => ({ since: new Date().toISOString() }),
  EndpointSecretRotateIn: () => ({ gracePeriodSeconds: 0 }),
  EventExampleIn: () => ({ eventType: 'user.signup' }),
  MessageIn: () => ({ eventType: 'user.signup', payload: {} }),
  AppPortalAccessIn: () => ({}),
  EventTypeIn: () => ({ name: `type.${(typesMade += 1)}`, description: '' }),
  EventTypeUpdate: () => ({ description: '' }),
  EventTypePatch: () => ({}),
}
let typesMade = 0

/** Taken although the reference does not name it: null for these is as if they were absent. */
const NULL_TAKEN = new Set(['metadata', 'payloadRetentionPeriod', 'featureFlags'])
/** Wider than the reference's 128 characters, as the server is. */
const WIDER = new Set(['channel', 'channels'])

let api: Harness
let names: Record<string, string>

before(async () => {
  api = await startApi()
  const { app, endpoint, publish, attempt } = await createRecorded(api)
  const messageId = await publish('user.signup')
  await api.svix.eventType.create({ name: 'user.signup', description: '' })
  names = {
    app_id: app,
    endpoint_id: endpoint,
    msg_id: messageId,
    attempt_id: await attempt({ messageId }),
    event_type_name: 'user.signup',
  }
})
after(() => api.close())

const pathOf = (one: Operation): string => one.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => names[name]!)

interface Refused {
  readonly value: unknown
  readonly type: 'value_error' | 'value_error.jsondecode'
}

/** Values that a schema does not allow, with the kind of error that each is. */
function refusedBy(given: Schema, name: string): Refused[] {
  const schema = resolved(given)
  const shape = (value: unknown): Refused => ({ value, type: 'value_error.jsondecode' })
  const rule = (value: unknown): Refused => ({ value, type: 'value_error' })
  const refused = schema.nullable === true || NULL_TAKEN.has(name) ? [] : [shape(null)]
  if (schema.type === 'boolean') return [...refused, shape('true'), shape(1)]
  if (schema.type === 'integer') {
    refused.push(shape('7'), shape(1.5), shape(-1))
    if (schema.minimum !== undefined && schema.minimum > 0) refused.push(rule(schema.minimum - 1))
    if (schema.maximum !== undefined) refused.push(rule(schema.maximum + 1))
    return schema.format === 'int64' ? refused.filter((one) => one.value !== -1) : refused
  }
  if (schema.type === 'array') {
    refused.push(shape('a'), shape({}), shape([1]), rule(['with space']), rule(['']))
    if (schema.minItems !== undefined) refused.push(rule([]))
    if (schema.maxItems !== undefined) refused.push(rule(Array.from({ length: schema.maxItems + 1 }, (_, i) => `item-${i}`)))
    return refused
  }
  if (schema.type === 'object') {
    refused.push(shape('a'), shape([]), shape(7))
    const values = schema.additionalProperties
    if (values?.type === 'string') refused.push(shape({ a: 1 }), ...(values.nullable === true ? [] : [shape({ a: null })]))
    if (values?.type === 'object') refused.push(shape({ a: 1 }), shape({ a: 'b' }))
    return refused
  }
  refused.push(shape(7), shape({}), shape([]))
  if (schema.format === 'date-time') return [...refused, shape('yesterday'), shape('2026-01-02'), shape('2026-02-30T00:00:00Z')]
  if (schema.format === 'uri') refused.push(rule('no uri'), rule('ftp://example.com'), rule('//example.com'))
  if (schema.pattern !== undefined) refused.push(rule('with space'), rule(''), rule('ünicode'))
  if (schema.minLength !== undefined) refused.push(rule(''))
  if (schema.maxLength !== undefined) refused.push(rule(`https://example.com/${'x'.repeat(schema.maxLength)}`))
  return refused
}

const snakeCase = (field: string): string => field.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

interface WithBody {
  readonly one: Operation
  readonly schema: Schema
  readonly base: () => Body
}

function withBody(): WithBody[] {
  return OPERATIONS.flatMap((one) => {
    const name = one.body?.$ref?.split('/').at(-1)
    return name === undefined || one.body === undefined ? [] : [{ one, schema: resolved(one.body), base: BODIES[name]! }]
  })
}

async function assertTaken({ one }: WithBody, body: Body): Promise<void> {
  const { status, json } = await api.call(one.method, pathOf(one), body)
  assert.ok(status < 300, `${one.name} ${JSON.stringify(body)}: ${status} ${JSON.stringify(json)}`)
}

test('every body is taken with its required fields alone, and with fields that nobody knows', async () => {
  for (const body of withBody()) {
    await assertTaken(body, body.base())
    await assertTaken(body, { ...body.base(), unknown: { nested: [1] }, 'x-y': null })
  }
})

test('every field that may be null is taken as null', async () => {
  for (const body of withBody()) {
    for (const [name, schema] of Object.entries(body.schema.properties ?? {})) {
      if (schema.nullable === true || NULL_TAKEN.has(name)) await assertTaken(body, { ...body.base(), [name]: null })
    }
  }
})

test('every value that the reference does not allow is refused: 422, where and of which kind', async () => {
  const wrong: string[] = []
  for (const { one, schema, base } of withBody()) {
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      const missing = schema.required?.includes(name) === true ? [{ value: undefined, type: 'value_error.jsondecode' as const }] : []
      for (const { value, type } of [...refusedBy(property, name), ...missing]) {
        const { status, json } = await api.call(one.method, pathOf(one), { ...base(), [name]: value })
        const item = status === 422 ? json.detail[0] : undefined
        const place = type === 'value_error' ? snakeCase(name) : name
        const found = `${status} ${item?.type} ${item?.loc.slice(0, 2).join('.')}`
        if (found !== `422 ${type} body.${place}`)
          wrong.push(`${one.name} ${name}=${JSON.stringify(value)?.slice(0, 60)}: ${found}, not ${type}`)
      }
    }
  }
  assert.deepEqual(wrong, [])
})

test('a body that is no object, no JSON or absent is refused: 422', async () => {
  for (const { one } of withBody()) {
    for (const body of ['', '{', '[]', '"text"', '7', 'null', '{"a":1}}']) {
      const { status, json } = await api.call(one.method, pathOf(one), body)
      assert.deepEqual(
        [status, json.detail[0]?.loc[0], json.detail[0]?.type],
        [422, 'body', 'value_error.jsondecode'],
        `${one.name} ${body}`,
      )
    }
  }
})

/** Texts of a query parameter: taken, refused as unreadable, refused by a rule. */
function textsOf({ name, schema: given }: Parameter): { taken: string[]; unreadable: string[]; refused: string[] } {
  const schema = resolved(given)
  if (name === 'limit') return { taken: ['0', '1', '250'], unreadable: ['x', '-1', '1.5', ''], refused: ['251', '100000'] }
  if (name === 'iterator') return { taken: [''], unreadable: [], refused: ['$$$', '-$$$'] }
  if (schema.enum !== undefined) return { taken: schema.enum.map(String), unreadable: ['99', 'x', ''], refused: [] }
  if (schema.type === 'boolean') return { taken: ['true', 'false'], unreadable: ['1', 'yes', 'TRUE', ''], refused: [] }
  if (schema.format === 'date-time') {
    const recent = new Date(Date.now() - 60_000).toISOString()
    return {
      taken: [recent, recent.replace('Z', '+00:00'), recent.replace(/\.\d+/, '')],
      unreadable: ['yesterday', '2026-01-02', '5', ''],
      refused: [],
    }
  }
  if (name === 'endpoint_id') return { taken: [names['endpoint_id']!], unreadable: [], refused: [] }
  const long = 'x'.repeat((WIDER.has(name) ? 256 : (schema.items?.maxLength ?? 256)) + 1)
  return { taken: ['user.signup', 'a-b_C.9'], unreadable: [], refused: ['with space', 'ü', long] }
}

test('every query parameter takes what the reference allows, and refuses the rest: 400 unreadable, 422 by a rule', async () => {
  for (const one of OPERATIONS) {
    for (const parameter of one.parameters.filter((each) => each.in === 'query')) {
      const request = async (text: string) => {
        const body = one.body?.$ref && BODIES[one.body.$ref.split('/').at(-1)!]!()
        const name = one.method === 'DELETE' ? pathOf(one).replace('user.signup', 'nothing') : pathOf(one)
        return api.call(one.method, `${name}?${parameter.name}=${encodeURIComponent(text)}`, body)
      }
      const { taken, unreadable, refused } = textsOf(parameter)
      for (const text of taken) {
        const { status } = await request(text)
        assert.ok(status < 300 || (one.method === 'DELETE' && status === 404), `${one.name} ${parameter.name}=${text}: ${status}`)
      }
      for (const text of unreadable) {
        const { status, json } = await request(text)
        const found = [status, json.code]
        assert.deepEqual(found, [400, 'generic_error'], `${one.name} ${parameter.name}=${text}`)
      }
      for (const text of refused) {
        const { status, json } = await request(text)
        assert.deepEqual(
          [status, json.detail?.[0]?.loc.slice(0, 2)],
          [422, ['query', parameter.name]],
          `${one.name} ${parameter.name}=${text}`,
        )
      }
    }
  }
})
