import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { createToken } from '../../api/token.ts'
import { MANAGEMENT_ORGANISATION } from '../../domain/operational.ts'
import { newId } from '../../domain/ids.ts'
import { createOwnConfiguration } from '../../storage/configuration.ts'
import { JWT_SECRET, startApi, type Harness } from './harness.ts'

let api: Harness
before(async () => {
  api = await startApi()
})
beforeEach(() => api.pool.query('DELETE FROM endpoint'))
after(() => api.close())

interface Told {
  readonly type: string
  readonly data: Record<string, unknown>
}

/** Events that were stored with an outbox row for the organisation's operational endpoints, since the last call. */
async function told(): Promise<Told[]> {
  const { rows } = await api.pool.query<{ payload: string }>(
    `SELECT m.payload FROM message m JOIN outbox o ON o.id = m.id JOIN application a ON a.id = m.app_id
     WHERE a.org_id = $1 AND a.uid = $2 ORDER BY m.id`,
    [MANAGEMENT_ORGANISATION, api.orgId],
  )
  await api.pool.query('DELETE FROM outbox')
  return rows.map((row) => JSON.parse(row.payload) as Told)
}

const operational = () => api.svix.operationalWebhook.endpoint

test('the official client manages operational endpoints', async () => {
  assert.deepEqual((await operational().list()).data, [])
  const created = await operational().create({ url: 'https://example.com/op', uid: 'op', eventTypes: ['endpoint.created'] })
  assert.deepEqual(
    [created.url, created.uid, created.eventTypes, created.disabled],
    ['https://example.com/op', 'op', ['endpoint.created'], false],
  )
  assert.deepEqual(await operational().get('op'), created)
  assert.deepEqual((await operational().list()).data, [created])
  const updated = await operational().upsert(created.id, { url: 'https://example.com/other', description: 'd' })
  assert.deepEqual([updated.url, updated.eventTypes, updated.description], ['https://example.com/other', null, 'd'])
  await operational().setHeaders(created.id, { headers: { 'x-one': '1', authorization: 'secret' } })
  assert.deepEqual(await operational().getHeaders(created.id), { headers: { 'x-one': '1' }, sensitive: ['authorization'] })
  const { key } = await operational().getSecret(created.id)
  await operational().rotateSecret(created.id)
  assert.notEqual((await operational().getSecret(created.id)).key, key)
  await operational().delete(created.id)
  await assert.rejects(operational().get(created.id), { code: 404 })
})

test('an operational endpoint takes operational event types only', async () => {
  const create = (body: object) => api.call('POST', '/operational-webhook/endpoint', { url: 'https://example.com/op', ...body })
  assert.equal((await create({ eventTypes: ['invoice.paid'] })).status, 422)
  const { status, json } = await create({ eventTypes: ['message.attempt.exhausted'] })
  assert.equal(status, 201)
  assert.ok(!('channels' in json))
})

test('every change of an endpoint is told', async () => {
  await operational().create({ url: 'https://example.com/op' })
  const application = await api.svix.application.create({ name: 'Shop', uid: newId('org') })
  const endpoint = await api.svix.endpoint.create(application.id, { url: 'https://example.com/a', uid: 'mine' })
  await api.svix.endpoint.patch(application.id, endpoint.id, { disabled: true })
  await api.svix.endpoint.patch(application.id, endpoint.id, { disabled: false })
  await api.svix.endpoint.delete(application.id, endpoint.id)
  const events = await told()
  assert.deepEqual(events.map((event) => event.type).sort(), [
    'endpoint.created',
    'endpoint.deleted',
    'endpoint.disabled',
    'endpoint.enabled',
    'endpoint.updated',
    'endpoint.updated',
  ])
  const { id: appId, uid: appUid } = application
  const dataOf = (type: string) => events.find((event) => event.type === type)?.data
  assert.deepEqual(dataOf('endpoint.created'), { appId, appUid, endpointId: endpoint.id, endpointUid: 'mine' })
  assert.equal(dataOf('endpoint.disabled')?.['trigger'], 'manual')
})

test('an endpoint that asked to be disabled is told of once', async () => {
  await operational().create({ url: 'https://example.com/op', eventTypes: ['endpoint.disabled'] })
  const { id: appId } = await api.svix.application.create({ name: 'Shop' })
  const { id: endpointId } = await api.svix.endpoint.create(appId, { url: 'https://example.com/a' })
  await createOwnConfiguration(api.pool).disable({ endpointId, appId })
  await createOwnConfiguration(api.pool).disable({ endpointId, appId })
  assert.deepEqual(await told(), [
    { type: 'endpoint.disabled', data: { appId, appUid: null, endpointId, endpointUid: null, trigger: 'automatic' } },
  ])
})

test('nothing is told without an enabled operational endpoint, of a change that fails, or of operational endpoints', async () => {
  const { id } = await operational().create({ url: 'https://example.com/op' })
  await operational().upsert(id, { url: 'https://example.com/op2' })
  assert.deepEqual(await told(), [])
  const application = await api.svix.application.create({ name: 'Shop' })
  const bad = await api.call('POST', `/app/${application.id}/endpoint`, { url: 'https://example.com/a', uid: 'taken' })
  assert.equal(bad.status, 201)
  assert.equal((await told()).length, 1)
  assert.equal((await api.call('POST', `/app/${application.id}/endpoint`, { url: 'https://example.com/a', uid: 'taken' })).status, 409)
  assert.deepEqual(await told(), [])
  await operational().upsert(id, { url: 'https://example.com/op', disabled: true })
  await api.svix.endpoint.create(application.id, { url: 'https://example.com/a' })
  assert.deepEqual(await told(), [])
})

test('operational endpoints are the organisation’s own: no application’s token and no other organisation reaches them', async () => {
  const { id } = await operational().create({ url: 'https://example.com/op' })
  const { id: appId } = await api.svix.application.create({ name: 'Shop' })
  const portal = await createToken({ secret: JWT_SECRET, subject: appId, org: api.orgId })
  assert.equal((await api.call('GET', '/operational-webhook/endpoint', undefined, portal)).status, 403)
  const stranger = await createToken({ secret: JWT_SECRET, subject: newId('org') })
  assert.equal((await api.call('GET', `/operational-webhook/endpoint/${id}`, undefined, stranger)).status, 404)
  assert.deepEqual((await api.call('GET', '/operational-webhook/endpoint', undefined, stranger)).json.data, [])
  assert.equal((await api.call('GET', `/app/${api.orgId}`)).status, 404)
})
