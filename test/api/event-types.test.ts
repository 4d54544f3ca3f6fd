import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createToken } from '../../api/token.ts'
import { newId } from '../../domain/ids.ts'
import { JWT_SECRET, startApi, type Harness } from './harness.ts'

let api: Harness
before(async () => {
  api = await startApi()
})
after(() => api.close())

const SCHEMAS = { '1': { type: 'object', properties: { invoiceId: { type: 'string' } } } }

test('an event type is created, read, patched, replaced, archived and expunged through the svix client', async () => {
  const { svix } = api
  const created = await svix.eventType.create({ name: 'invoice.paid', description: 'Paid', schemas: SCHEMAS })
  assert.deepEqual([created.archived, created.deprecated, created.schemas], [false, false, SCHEMAS])
  assert.equal((await api.call('POST', '/event-type', { name: 'invoice.paid', description: 'x' })).json.code, 'event_type_exists')
  const patched = await svix.eventType.patch('invoice.paid', { deprecated: true, schemas: null })
  assert.deepEqual([patched.deprecated, patched.schemas, patched.description], [true, null, 'Paid'])
  assert.equal((await api.call('PATCH', '/event-type/invoice.paid', { description: null })).status, 422)
  await svix.eventType.delete('invoice.paid')
  assert.equal((await svix.eventType.get('invoice.paid')).archived, true)
  const again = await api.call('POST', '/event-type', { name: 'invoice.paid', description: 'Again' })
  assert.deepEqual([again.status, again.json['archived'], again.json['description'], again.json['schemas']], [201, false, 'Again', null])
  assert.equal((await api.call('PUT', '/event-type/invoice.paid', { description: 'Put' })).status, 200)
  assert.equal((await api.call('PUT', '/event-type/new.one', { description: 'New' })).status, 201)
  assert.equal((await api.call('PUT', '/event-type/bad%20one', { description: 'New' })).status, 422)
  await svix.eventType.delete('invoice.paid', { expunge: true })
  assert.equal((await api.call('GET', '/event-type/invoice.paid')).status, 404)
  assert.equal((await api.call('DELETE', '/event-type/invoice.paid')).status, 404)
})

test('event types are listed by name, archived ones and schemas only when asked for', async () => {
  for (const name of ['list.c', 'list.a', 'list.b']) await api.svix.eventType.create({ name, description: name, schemas: SCHEMAS })
  await api.svix.eventType.delete('list.b')
  const page = await api.call('GET', '/event-type?limit=2&iterator=list.')
  assert.deepEqual(
    page.json.data.map((one) => [one['name'], one['schemas']]),
    [
      ['list.a', null],
      ['list.c', null],
    ],
  )
  assert.equal(page.json.iterator, 'list.c')
  const all = await api.svix.eventType.list({ includeArchived: true, withContent: true, iterator: 'list.' })
  assert.deepEqual(
    all.data.slice(0, 3).map((one) => [one.name, one.archived]),
    [
      ['list.a', false],
      ['list.b', true],
      ['list.c', false],
    ],
  )
  assert.deepEqual(all.data[0]?.schemas, SCHEMAS)
  assert.equal((await api.call('GET', '/event-type?include_archived=maybe')).status, 400)
})

test('a description is required and names follow the pattern', async () => {
  assert.equal((await api.call('POST', '/event-type', { name: 'x' })).json.detail[0]?.type, 'value_error.jsondecode')
  assert.deepEqual((await api.call('POST', '/event-type', { name: 'a b', description: '' })).json.detail[0]?.loc, [
    'body',
    'name',
    '__all__',
  ])
})

test('an organisation has 10,000 event types at most; others are not counted', async () => {
  const owner = newId('org')
  const token = await createToken({ secret: JWT_SECRET, subject: owner })
  await api.pool.query("INSERT INTO event_type (org_id, name, description) SELECT $1, 'type.' || i, '' FROM generate_series(1, 9999) i", [
    owner,
  ])
  const create = (name: string, as = token) => api.call('POST', '/event-type', { name, description: 'd' }, as)
  assert.equal((await create('the.last')).status, 201)
  const { status, json } = await create('one.more')
  assert.deepEqual([status, json.code], [400, 'limit_reached'])
  assert.equal((await create('one.more', api.token)).status, 201)
})

test('schemas may speak of characters that they may not contain', async () => {
  const schemas = { '1': { type: 'string', pattern: '^[^\\u0000-\\u0008\\ud800]*$' } }
  const created = await api.call('POST', '/event-type', { name: 'patterned', description: '', schemas })
  assert.deepEqual([created.status, created.json['schemas']], [201, schemas])
  for (const text of ['\u0000', '\ud800']) {
    for (const refused of [{ '1': { enum: [text] } }, { '1': { [text]: 1 } }]) {
      const { status, json } = await api.call('POST', '/event-type', { name: 'refused', description: '', schemas: refused })
      assert.deepEqual([status, json.detail[0]?.loc], [422, ['body', 'schemas']])
    }
  }
})
