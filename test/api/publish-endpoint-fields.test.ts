import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startApi, type Harness } from './harness.ts'

const URL = 'https://example.com/hook'
let api: Harness
let app: string

before(async () => {
  api = await startApi()
  app = (await api.svix.application.create({ name: 'Fields' })).id
  await api.svix.eventType.create({ name: 'invoice.paid', description: '' })
})
after(() => api.close())

const create = (fields: object) => api.call('POST', `/app/${app}/endpoint`, { url: URL, ...fields })

const EXTRAS = {
  filter: 'payload.amount > 100',
  ordering: 'fifo',
  priority: 'high',
  circuitBreaker: false,
  batching: { maxEvents: 50, lingerMs: 100, maxBytes: 65_536 },
  timeoutMs: 5000,
  retrySchedule: [1, 60],
} as const
const DEFAULTS = { filter: null, ordering: 'none', priority: 'medium', circuitBreaker: true, batching: null }

test('an endpoint subscribes to wildcards of types that need not exist, and to names that do', async () => {
  const eventTypes = ['invoice.*', '*', 'nobody.has.this.*', 'invoice.paid']
  const { status, json } = await create({ eventTypes })
  assert.deepEqual([status, json['eventTypes']], [201, eventTypes])
  assert.equal((await create({ eventTypes: ['invoice.*', 'unknown.type'] })).status, 422)
  for (const wrong of ['invoice*', '*.paid', 'in*.paid', 'invoice.*.paid', '**', 'a b.*', `${'x'.repeat(255)}.*`]) {
    const answer = await create({ eventTypes: [wrong] })
    assert.deepEqual([answer.status, answer.json.detail[0]?.loc], [422, ['body', 'event_types', '__all__']], wrong)
  }
})

test('the extra fields of an endpoint are stored, shown, patched and reset', async () => {
  const plain = await create({})
  for (const [field, value] of Object.entries(DEFAULTS)) assert.deepEqual(plain.json[field], value, field)
  const { json } = await create(EXTRAS)
  const path = `/app/${app}/endpoint/${json.id}`
  const shown = async (expected: object) => {
    const got = (await api.call('GET', path)).json
    for (const [field, value] of Object.entries(expected)) assert.deepEqual(got[field], value, field)
    assert.deepEqual(
      (await api.call('GET', `/app/${app}/endpoint`)).json.data.find((one) => one.id === json.id),
      got,
    )
  }
  await shown(EXTRAS)
  await api.call('PATCH', path, { description: 'other' })
  await shown(EXTRAS)
  assert.equal((await api.call('PATCH', path, { filter: null, batching: null, priority: 'low' })).status, 200)
  await shown({ ...EXTRAS, filter: null, batching: null, priority: 'low' })
  assert.equal((await api.call('PUT', path, { url: URL })).status, 200)
  await shown(DEFAULTS)
})

test('extra fields that mean nothing are refused, and change nothing', async () => {
  const { json } = await create(EXTRAS)
  const path = `/app/${app}/endpoint/${json.id}`
  const cases: object[] = [
    { filter: '' },
    { filter: 'payload.' },
    { filter: 'amount > 1' },
    { filter: 'payload.text.matches("a")' },
    { filter: '1 + 1' },
    { filter: 'payload.text == "\0"' },
    { filter: 7 },
    { filter: `payload.a == "${'x'.repeat(1024)}"` },
    { ordering: 'lifo' },
    { ordering: null },
    { priority: 'urgent' },
    { batching: {} },
    { batching: { maxEvents: 0, lingerMs: 1 } },
    { batching: { maxEvents: 101, lingerMs: 1 } },
    { batching: { maxEvents: 1, lingerMs: 1001 } },
    { batching: { maxEvents: 1.5, lingerMs: 1 } },
    { batching: { maxEvents: 1, lingerMs: 1, maxBytes: 1023 } },
    { batching: { maxEvents: 1, lingerMs: 1, maxBytes: 8_388_609 } },
  ]
  for (const fields of cases) {
    assert.equal((await create(fields)).status, 422, JSON.stringify(fields))
    assert.equal((await api.call('PATCH', path, fields)).status, 422, JSON.stringify(fields))
  }
  assert.deepEqual((await api.call('GET', path)).json, json)
})
