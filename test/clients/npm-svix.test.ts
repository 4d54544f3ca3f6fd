import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Webhook as StandardWebhook } from 'standardwebhooks'
import { Ordering, Svix, Webhook as SvixWebhook, type MessageAttemptListByEndpointOptions } from 'svix'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Received, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'
import { recordCalls } from './called.ts'

/** Resources of the client that the open-source server has; every method of them is called but for these, which it has not. */
const ABSENT: Readonly<Record<string, readonly string[]>> = {
  application: [],
  authentication: ['expireAll', 'streamPortalAccess', 'streamLogout', 'streamExpireAll', 'rotateStreamPollerToken', 'getStreamPollerToken'],
  endpoint: ['transformationPartialUpdate', 'replayMissing', 'bulkReplay'],
  eventType: ['importOpenapi'],
  health: [],
  message: ['precheck', 'bulkExpungeContent', 'expungeAllContents'],
  messageAttempt: [],
}

const SINCE = () => new Date(Date.now() - 3_600_000)

let service: TestService
let receiver: Receiver
let svix: Svix
const records: Record<string, { missing(): string[] }> = {}

/** The client as it comes, its resources wrapped to know what was called. */
function recorded(client: Svix): Svix {
  const resources = new Map(Object.keys(ABSENT).map((name) => [name, recordCalls(client[name as 'application'])] as const))
  for (const [name, record] of resources) records[name] = record
  return new Proxy(client, {
    get: (target, name, receiving) => resources.get(String(name))?.client ?? (Reflect.get(target, name, receiving) as unknown),
  })
}

before(async () => {
  ;[service, receiver] = await Promise.all([
    startTestService({ env: { TIDINGS_SVIX_HEADERS: 'true' } }),
    startReceiver((one) => ({ status: one.path === '/broken' ? 500 : 200, body: 'heard' })),
  ])
  svix = recorded(new Svix(service.token, { serverUrl: service.url, retryScheduleInMs: [] }))
})
after(async () => {
  await service.stop()
  await receiver.close()
})

/** An application that nothing else uses. */
const createApplication = async () => (await svix.application.create({ name: 'Client' })).id

test('health', async () => {
  await svix.health.get()
})

test('applications: create, get, get or create, list, upsert, patch, delete', async () => {
  const created = await svix.application.create({ name: 'A', uid: 'client-a', metadata: { k: 'v' }, throttleRate: 5 })
  assert.deepEqual([created.uid, created.metadata, created.throttleRate], ['client-a', { k: 'v' }, 5])
  assert.ok(created.createdAt instanceof Date && created.updatedAt >= created.createdAt)
  assert.deepEqual(await svix.application.get('client-a'), created)
  assert.deepEqual(await svix.application.getOrCreate({ name: 'Other', uid: 'client-a' }), created)
  await assert.rejects(svix.application.create({ name: 'Other', uid: 'client-a' }), { code: 409 })
  const list = await svix.application.list({ limit: 1, order: Ordering.Descending })
  assert.deepEqual([list.data.length, list.done, list.iterator], [1, true, created.id])
  assert.deepEqual((await svix.application.upsert('client-a', { name: 'B', uid: 'client-a' })).metadata, {})
  assert.equal((await svix.application.patch('client-a', { name: 'C' })).name, 'C')
  await svix.application.delete('client-a')
  await assert.rejects(svix.application.get('client-a'), { code: 404 })
})

test('event types: create, get, list, upsert, patch, archive, unarchive, expunge', async () => {
  const schemas = { '1': { type: 'object', properties: { id: { type: 'string' } } } }
  const created = await svix.eventType.create({
    name: 'client.created',
    description: 'Made',
    schemas,
    groupName: 'client',
    featureFlags: ['beta'],
  })
  assert.deepEqual([created.name, created.schemas, created.archived, created.deprecated], ['client.created', schemas, false, false])
  assert.deepEqual([created.groupName, created.featureFlags], ['client', ['beta']])
  await assert.rejects(svix.eventType.create({ name: 'client.created', description: '' }), { code: 409 })
  assert.deepEqual((await svix.eventType.get('client.created')).schemas, schemas)
  assert.equal((await svix.eventType.list({ withContent: false })).data[0]?.schemas ?? null, null)
  assert.deepEqual((await svix.eventType.list({ withContent: true, limit: 10, order: Ordering.Ascending })).data[0]?.schemas, schemas)
  const replaced = await svix.eventType.upsert('client.created', { description: 'Anew', deprecated: true })
  assert.deepEqual([replaced.schemas ?? null, replaced.deprecated], [null, true])
  assert.equal((await svix.eventType.patch('client.created', { description: 'Patched' })).description, 'Patched')
  await svix.eventType.delete('client.created')
  assert.equal((await svix.eventType.list({ includeArchived: true })).data[0]?.archived, true)
  assert.deepEqual((await svix.eventType.list()).data, [])
  assert.equal((await svix.eventType.create({ name: 'client.created', description: 'Back' })).archived, false)
  await svix.eventType.delete('client.created', { expunge: true })
  await assert.rejects(svix.eventType.get('client.created'), { code: 404 })
})

test('endpoints: create, get, list, upsert, patch, headers, secret, rotation, statistics, delete', async () => {
  const app = await createApplication()
  await svix.eventType.create({ name: 'endpoint.type', description: '' })
  const input = {
    url: `${receiver.url}/x`,
    uid: 'e',
    description: 'd',
    eventTypes: ['endpoint.type'],
    channels: ['one'],
    metadata: { k: 'v' },
  }
  const created = await svix.endpoint.create(app, { ...input, throttleRate: 9, headers: { 'X-A': '1' } })
  const { createdAt, updatedAt, id } = created
  assert.ok(createdAt instanceof Date && updatedAt instanceof Date && id.startsWith('ep_'))
  for (const [field, value] of Object.entries(input)) assert.deepEqual(created[field as 'url'], value, field)
  assert.deepEqual(await svix.endpoint.get(app, 'e'), created)
  assert.deepEqual((await svix.endpoint.list(app, { limit: 5, order: Ordering.Ascending })).data, [created])
  assert.equal((await svix.endpoint.upsert(app, 'e', { url: `${receiver.url}/y`, uid: 'e' })).eventTypes ?? null, null)
  assert.equal((await svix.endpoint.patch(app, 'e', { disabled: true })).disabled, true)
  assert.deepEqual((await svix.endpoint.getHeaders(app, 'e')).headers, { 'X-A': '1' })
  await svix.endpoint.patchHeaders(app, 'e', { headers: { Authorization: 'Bearer x' } })
  assert.deepEqual(await svix.endpoint.getHeaders(app, 'e'), { headers: { 'X-A': '1' }, sensitive: ['Authorization'] })
  await svix.endpoint.setHeaders(app, 'e', { headers: { 'X-B': '2' } })
  assert.deepEqual((await svix.endpoint.getHeaders(app, 'e')).headers, { 'X-B': '2' })
  const { key } = await svix.endpoint.getSecret(app, 'e')
  await svix.endpoint.rotateSecret(app, 'e', {})
  assert.notEqual((await svix.endpoint.getSecret(app, 'e')).key, key)
  const { success, fail, pending, sending } = await svix.endpoint.getStats(app, 'e', { since: SINCE(), until: new Date() })
  assert.deepEqual({ success, fail, pending, sending }, { success: 0, fail: 0, pending: 0, sending: 0 })
  await svix.endpoint.delete(app, 'e')
  await assert.rejects(svix.endpoint.get(app, 'e'), { code: 404 })
})

function verify(secret: string, one: Received): unknown {
  const standard = new StandardWebhook(secret).verify(one.body, { ...one.headers })
  // Svix's own class gives nothing back: it throws where the signature is wrong.
  new SvixWebhook(secret).verify(one.body, { ...one.headers })
  assert.throws(() => new StandardWebhook(secret).verify(`${one.body} `, { ...one.headers }))
  return standard
}

test('messages and attempts: create, deliver, verify, read, list, resend, recover, examples, expunge', async () => {
  const app = await createApplication()
  await svix.eventType.create({ name: 'order.paid', description: '', schemas: { '1': { type: 'object', example: { order: 7 } } } })
  const good = await svix.endpoint.create(app, { url: `${receiver.url}/good`, channels: ['shop'] })
  const broken = await svix.endpoint.create(app, { url: `${receiver.url}/broken`, channels: ['shop'] })
  const { key } = await svix.endpoint.getSecret(app, good.id)
  const input = { eventType: 'order.paid', payload: { order: 1 }, eventId: 'order-1', channels: ['shop'] }
  const created = await svix.message.create(
    app,
    { ...input, payloadRetentionPeriod: 30 },
    { withContent: true, idempotencyKey: 'npm-order-1' },
  )
  assert.deepEqual([created.payload, created.eventId, created.channels], [{ order: 1 }, 'order-1', ['shop']])
  const repeated = await svix.message.create(app, input, { withContent: true, idempotencyKey: 'npm-order-1' })
  assert.deepEqual(repeated, created)
  await assert.rejects(svix.message.create(app, input), { code: 409 })
  const [delivered] = await receiver.waitFor(1, { matches: (one) => one.path === '/good' })
  assert.deepEqual(verify(key, delivered!), { order: 1 })
  assert.equal(delivered!.headers['webhook-id'], created.id)
  const listed = await eventually(
    () => svix.messageAttempt.listByMsg(app, 'order-1', { withContent: true }),
    (list) => new Set(list.data.map((one) => one.endpointId)).size === 2,
  )
  const attempt = listed.data.find((one) => one.endpointId === good.id)!
  assert.deepEqual([attempt.status, attempt.response, attempt.responseStatusCode, attempt.msgId], [0, 'heard', 200, created.id])
  assert.equal((await svix.messageAttempt.get(app, created.id, attempt.id)).url, `${receiver.url}/good`)
  const options = {
    status: 0,
    statusCodeClass: 200,
    channel: 'shop',
    eventTypes: ['order.paid'],
    after: SINCE(),
    before: new Date(Date.now() + 60_000),
    limit: 5,
  } satisfies MessageAttemptListByEndpointOptions
  assert.deepEqual(
    (await svix.messageAttempt.listByEndpoint(app, good.id, options)).data.map((one) => one.id),
    [attempt.id],
  )
  assert.equal((await svix.messageAttempt.listAttemptedMessages(app, broken.id, { withContent: true })).data[0]?.id, created.id)
  assert.equal((await svix.messageAttempt.listAttemptedDestinations(app, created.id)).data.length, 2)
  await svix.messageAttempt.expungeContent(app, created.id, attempt.id)
  assert.equal((await svix.messageAttempt.get(app, created.id, attempt.id)).response, 'EXPUNGED')
  await svix.messageAttempt.resend(app, created.id, good.id)
  await receiver.waitFor(2, { matches: (one) => one.path === '/good' })
  const task = await svix.endpoint.recover(app, broken.id, { since: SINCE() })
  assert.deepEqual([task.status, task.task], ['running', 'endpoint.recover'])
  const example = await svix.endpoint.sendExample(app, good.id, { eventType: 'order.paid' })
  const [shown] = await receiver.waitFor(1, { matches: (one) => one.headers['webhook-id'] === example.id })
  assert.deepEqual(verify(key, shown!), { order: 7 })
  assert.deepEqual((await svix.message.get(app, 'order-1', { withContent: true })).payload, { order: 1 })
  assert.deepEqual((await svix.message.get(app, 'order-1')).payload, {})
  assert.equal((await svix.message.list(app, { channel: 'shop', eventTypes: ['order.paid'], after: SINCE() })).data[0]?.id, created.id)
  await svix.message.expungeContent(app, created.id)
  assert.deepEqual((await svix.message.get(app, created.id, { withContent: true })).payload, { expired: true })
  await assert.rejects(svix.messageAttempt.resend(app, created.id, good.id), { code: 400 })
})

test('portal access: a token of one application, and no logging out', async () => {
  const app = await createApplication()
  const { token, url } = await svix.authentication.appPortalAccess(app, { featureFlags: ['beta'] })
  assert.ok(URL.canParse(url))
  const portal = new Svix(token, { serverUrl: service.url, retryScheduleInMs: [] })
  assert.equal((await portal.application.get(app)).id, app)
  await assert.rejects(portal.application.list(), { code: 403 })
  await assert.rejects(portal.application.get(await createApplication()), { code: 404 })
  await assert.rejects(svix.authentication.logout(), { code: 501 })
})

test('every operation that the client offers and the open-source server has was called', () => {
  for (const [name, absent] of Object.entries(ABSENT)) assert.deepEqual(new Set(records[name]!.missing()), new Set(absent), name)
})
