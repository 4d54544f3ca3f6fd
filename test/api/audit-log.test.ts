import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createToken } from '../../api/token.ts'
import { newId } from '../../domain/ids.ts'
import { JWT_SECRET, startApi, type Answer, type Harness } from './harness.ts'

let api: Harness
before(async () => {
  api = await startApi()
})
after(() => api.close())

const log = async (query = '') => (await api.call('GET', `/audit-log?limit=250&${query}`)).json.data

const shown = (entry: Answer) => [entry['operation'], entry['objectId'], entry['fields']]

test('each change is logged with who made it and which fields it changed, never with their values', async () => {
  const { id: app } = await api.svix.application.create({ name: 'Shop' })
  await api.svix.application.patch(app, { name: 'Store', metadata: { key: 'hidden-value' } })
  const { id: endpoint } = await api.svix.endpoint.create(app, { url: 'https://example.com/hidden', headers: { 'x-a': 'hidden' } })
  await api.svix.endpoint.patchHeaders(app, endpoint, { headers: { 'x-b': 'hidden' } })
  await api.svix.endpoint.rotateSecret(app, endpoint, {})
  await api.svix.endpoint.patch(app, endpoint, { description: 'hidden', disabled: true })
  const portal = await createToken({ secret: JWT_SECRET, subject: app, org: api.orgId })
  await api.call('DELETE', `/app/${app}/endpoint/${endpoint}`, undefined, portal)
  await api.svix.application.delete(app)
  const entries = await log(`application=${app}&order=ascending`)
  assert.deepEqual(entries.map(shown).slice(1, 2), [['application.updated', app, ['metadata', 'name']]])
  assert.deepEqual(
    entries.map((entry) => entry['operation']),
    [
      'application.created',
      'application.updated',
      'endpoint.created',
      'endpoint.updated',
      'endpoint.updated',
      'endpoint.updated',
      'endpoint.disabled',
      'endpoint.deleted',
      'application.deleted',
    ],
  )
  assert.deepEqual(
    entries.slice(3, 7).map((entry) => entry['fields']),
    [['headers'], ['secret'], ['description', 'disabled'], ['disabled']],
  )
  assert.deepEqual(new Set(entries.map((entry) => entry['actor'])), new Set([api.orgId, app]))
  assert.equal(entries[7]?.['actor'], app)
  assert.doesNotMatch(JSON.stringify(entries), /hidden|whsec|Shop|Store/)
})

test('changes of event types are the organisation’s, and are logged', async () => {
  await api.svix.eventType.create({ name: 'audited.type', description: 'd' })
  await api.svix.eventType.patch('audited.type', { deprecated: true })
  await api.svix.eventType.delete('audited.type')
  const entries = (await log('order=ascending')).filter((entry) => entry['objectId'] === 'audited.type')
  assert.deepEqual(
    entries.map((entry) => [entry['operation'], entry['appId']]),
    [
      ['event-type.created', null],
      ['event-type.updated', null],
      ['event-type.archived', null],
    ],
  )
  assert.deepEqual(entries[1]?.['fields'], ['deprecated'])
})

test('the end of tokens is logged', async () => {
  const { id } = await api.svix.application.create({ name: 'Shop' })
  await api.call('POST', `/auth/app/${id}/expire-all`, {})
  await api.call('POST', '/auth/token/some-token/expire', {})
  const entries = await log()
  const entryOf = (operation: string) => entries.find((entry) => entry['operation'] === operation)
  assert.deepEqual([entryOf('token.expired')?.['objectId'], entryOf('token.expired')?.['appId']], ['some-token', null])
  assert.equal(entryOf('application.tokens-expired')?.['objectId'], id)
})

test('a change that fails leaves no entry', async () => {
  const uid = `taken-${newId('org')}`
  const { id } = await api.svix.application.create({ name: 'One', uid })
  const before = (await log()).length
  assert.equal((await api.call('POST', '/app', { name: 'Two', uid })).status, 409)
  const { id: other } = await api.svix.application.create({ name: 'Three' })
  assert.equal((await api.call('PATCH', `/app/${other}`, { uid })).status, 409)
  assert.equal((await log()).length, before + 1)
  assert.deepEqual(
    (await log(`application=${uid}`)).map((entry) => entry['objectId']),
    [id],
  )
})

test('the log is paged and bounded by time, and belongs to one organisation', async () => {
  const { id } = await api.svix.application.create({ name: 'Paged' })
  for (let i = 0; i < 4; i++) await api.svix.application.patch(id, { name: `Paged ${i}` })
  const first = (await api.call('GET', `/audit-log?application=${id}&limit=3`)).json
  const second = (await api.call('GET', `/audit-log?application=${id}&limit=3&iterator=${first.iterator}`)).json
  assert.deepEqual([first.data.length, first.done, second.data.length, second.done], [3, false, 2, true])
  const later = new Date(Date.now() + 1000).toISOString()
  assert.equal((await log(`application=${id}&after=${later}`)).length, 0)
  assert.equal((await log(`application=${id}&before=${later}`)).length, 5)
  const stranger = await createToken({ secret: JWT_SECRET, subject: newId('org') })
  assert.deepEqual((await api.call('GET', `/audit-log?application=${id}`, undefined, stranger)).json.data, [])
  const portal = await createToken({ secret: JWT_SECRET, subject: id, org: api.orgId })
  assert.equal((await api.call('GET', '/audit-log', undefined, portal)).status, 403)
})
