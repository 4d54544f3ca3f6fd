import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createToken } from '../../api/token.ts'
import { newId } from '../../domain/ids.ts'
import { OPERATIONS, operation, problemsOf, type Operation } from '../reference/document.ts'
import { JWT_SECRET, startApi, type Answer, type Harness } from './harness.ts'
import { createRecorded } from './recorded.ts'

/** Successes whose status is another than the reference's; docs/api-compatibility.md gives the reasons. */
const OTHER_STATUS: Readonly<Record<string, number>> = {
  'POST /app/{app_id}/endpoint/{endpoint_id}/secret/rotate': 200,
  'DELETE /app/{app_id}/msg/{msg_id}/content': 204,
  'DELETE /app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content': 204,
  'POST /auth/logout': 501,
  'GET /health': 200,
  'HEAD /health': 200,
  'HEAD /health/ping': 204,
}

let api: Harness
/** Parts of paths by their names in the reference. */
let names: Record<string, string>
const requested = new Set<string>()

before(async () => {
  api = await startApi()
  const recorded = await createRecorded(api)
  const messageId = await recorded.publish('user.signup', { eventId: 'an-event', channels: ['one'] })
  const attemptId = await recorded.attempt({ messageId })
  await recorded.attempt({ messageId, endpointId: recorded.other, status: 2, code: 500, nextAt: new Date(Date.now() + 60_000) })
  await api.svix.eventType.create({ name: 'user.signup', description: 'Signed up', schemas: { '1': { type: 'object' } } })
  names = { app_id: recorded.app, endpoint_id: recorded.endpoint, msg_id: messageId, attempt_id: attemptId, event_type_name: 'user.signup' }
})
after(() => api.close())

const pathOf = (one: Operation, parts: Readonly<Record<string, string>> = names) =>
  one.path.replaceAll(/\{(\w+)\}/g, (_, name: string) => parts[name]!)

/** Requests an operation and holds its answer against the reference. */
async function use(
  name: string,
  options: { body?: unknown; query?: string; parts?: Record<string, string>; status?: number } = {},
): Promise<Answer> {
  const one = operation(name)
  requested.add(name)
  const path = `${pathOf(one, { ...names, ...options.parts })}${options.query ?? ''}`
  const { status, json } = await api.call(one.method, path, options.body)
  const expected = options.status ?? OTHER_STATUS[name] ?? [...one.answers.keys()].find((code) => code < 300)!
  assert.equal(status, expected, `${one.method} ${path}: ${JSON.stringify(json)}`)
  const schema = one.answers.get(status)
  if (schema !== undefined) assert.deepEqual(problemsOf(schema, json), [], `${one.method} ${path}`)
  return json
}

test('applications answer as the reference says', async () => {
  const created = await use('POST /app', { body: { name: 'N' }, status: 201 })
  const { id, createdAt, updatedAt, ...rest } = created
  assert.ok(id && createdAt === updatedAt)
  assert.deepEqual(rest, { uid: null, name: 'N', throttleRate: null, rateLimit: null, metadata: {} })
  const full = { name: 'Full', uid: 'full', metadata: { a: 'b' }, throttleRate: 1 }
  await use('POST /app', { body: full, status: 201 })
  await use('POST /app', { body: full, query: '?get_if_exists=true', status: 200 })
  await use('GET /app')
  await use('GET /app', { query: '?limit=0' })
  await use('GET /app/{app_id}', { parts: { app_id: 'full' } })
  await use('PUT /app/{app_id}', { parts: { app_id: 'full' }, body: full, status: 200 })
  await use('PUT /app/{app_id}', { parts: { app_id: 'new' }, body: { name: 'New' }, status: 201 })
  await use('PATCH /app/{app_id}', { parts: { app_id: 'full' }, body: {} })
  await use('DELETE /app/{app_id}', { parts: { app_id: 'full' } })
})

test('endpoints answer as the reference says', async () => {
  const url = 'https://example.com/webhook/'
  const created = await use('POST /app/{app_id}/endpoint', { body: { url } })
  const defaults = { uid: null, url, description: '', disabled: false, eventTypes: null, channels: null, throttleRate: null, metadata: {} }
  for (const [field, value] of Object.entries(defaults)) assert.deepEqual(created[field], value, field)
  const full = {
    url,
    uid: 'full',
    description: 'd',
    disabled: true,
    eventTypes: ['user.signup'],
    channels: ['a'],
    throttleRate: 1,
    metadata: { a: 'b' },
  }
  const shown = await use('POST /app/{app_id}/endpoint', { body: full })
  for (const [field, value] of Object.entries(full)) assert.deepEqual(shown[field], value, field)
  const parts = { endpoint_id: 'full' }
  await use('GET /app/{app_id}/endpoint')
  await use('GET /app/{app_id}/endpoint/{endpoint_id}', { parts })
  const replaced = await use('PUT /app/{app_id}/endpoint/{endpoint_id}', { parts, body: { url, uid: 'full' }, status: 200 })
  for (const [field, value] of Object.entries({ ...defaults, uid: 'full' })) assert.deepEqual(replaced[field], value, field)
  await use('PUT /app/{app_id}/endpoint/{endpoint_id}', { parts: { endpoint_id: 'new' }, body: { url }, status: 201 })
  await use('PATCH /app/{app_id}/endpoint/{endpoint_id}', { parts, body: { description: 'x' } })
  await use('PUT /app/{app_id}/endpoint/{endpoint_id}/headers', { parts, body: { headers: { 'X-Example': '123', Authorization: 'x' } } })
  await use('PATCH /app/{app_id}/endpoint/{endpoint_id}/headers', { parts, body: { headers: { 'X-Example': null } } })
  const headers = await use('GET /app/{app_id}/endpoint/{endpoint_id}/headers', { parts })
  assert.deepEqual(headers, { headers: {}, sensitive: ['Authorization'] })
  await use('GET /app/{app_id}/endpoint/{endpoint_id}/secret', { parts })
  await use('POST /app/{app_id}/endpoint/{endpoint_id}/secret/rotate', { parts, body: {} })
  await use('GET /app/{app_id}/endpoint/{endpoint_id}/stats')
  await use('POST /app/{app_id}/endpoint/{endpoint_id}/recover', { body: { since: new Date(Date.now() - 1000).toISOString() } })
  await use('POST /app/{app_id}/endpoint/{endpoint_id}/send-example', { body: { eventType: 'user.signup' } })
  await use('DELETE /app/{app_id}/endpoint/{endpoint_id}', { parts })
})

test('event types answer as the reference says', async () => {
  const created = await use('POST /event-type', { body: { name: 'made', description: 'd' } })
  const defaults = { name: 'made', description: 'd', archived: false, deprecated: false, featureFlag: null, schemas: null }
  for (const [field, value] of Object.entries(defaults)) assert.deepEqual(created[field], value, field)
  const full = { description: '', archived: false, deprecated: true, featureFlag: 'flag', schemas: { '1': { type: 'object' } } }
  const parts = { event_type_name: 'made' }
  const put = await use('PUT /event-type/{event_type_name}', { parts, body: full, status: 200 })
  for (const [field, value] of Object.entries(full)) assert.deepEqual(put[field], value, field)
  await use('PUT /event-type/{event_type_name}', { parts: { event_type_name: 'other' }, body: { description: '' }, status: 201 })
  await use('PATCH /event-type/{event_type_name}', { parts, body: { featureFlag: null } })
  await use('GET /event-type/{event_type_name}', { parts })
  for (const query of ['', '?with_content=true', '?include_archived=true&order=descending']) await use('GET /event-type', { query })
  await use('DELETE /event-type/{event_type_name}', { parts })
  await use('DELETE /event-type/{event_type_name}', { parts, query: '?expunge=true' })
})

test('messages and attempts answer as the reference says', async () => {
  const created = await use('POST /app/{app_id}/msg', { body: { eventType: 'user.signup', payload: { a: 1 } } })
  assert.deepEqual([created.payload, created['eventId'], created['channels']], [{ a: 1 }, null, null])
  await use('GET /app/{app_id}/msg')
  await use('GET /app/{app_id}/msg', { query: '?with_content=false&channel=one' })
  for (const msg_id of [names['msg_id']!, 'an-event']) await use('GET /app/{app_id}/msg/{msg_id}', { parts: { msg_id } })
  for (const endpoint_id of [names['endpoint_id']!, 'first']) {
    await use('GET /app/{app_id}/attempt/endpoint/{endpoint_id}', { parts: { endpoint_id } })
    await use('GET /app/{app_id}/endpoint/{endpoint_id}/msg', { parts: { endpoint_id } })
  }
  for (const query of ['', '?endpoint_id=first', '?status=2&status_code_class=500', '?with_content=false']) {
    await use('GET /app/{app_id}/attempt/msg/{msg_id}', { query })
  }
  await use('GET /app/{app_id}/msg/{msg_id}/endpoint')
  await use('GET /app/{app_id}/msg/{msg_id}/attempt/{attempt_id}')
  assert.deepEqual(await use('POST /app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend'), {})
  await use('DELETE /app/{app_id}/msg/{msg_id}/attempt/{attempt_id}/content')
  await use('DELETE /app/{app_id}/msg/{msg_id}/content')
})

test('authentication and health answer as the reference says', async () => {
  await use('POST /auth/app-portal-access/{app_id}', { body: {} })
  await use('POST /auth/logout')
  for (const name of ['GET /health', 'HEAD /health', 'GET /health/ping', 'HEAD /health/ping']) await use(name)
})

const withToken = () => OPERATIONS.filter((one) => !one.path.startsWith('/health'))

test('every operation was requested', () => {
  assert.deepEqual(
    OPERATIONS.map((one) => one.name).filter((name) => !requested.has(name)),
    [],
  )
})

test('every operation ignores a trailing slash, refuses a missing or wrong token, and hides what another organisation has', async () => {
  // Taken by every operation that takes a body.
  const any = {
    name: 'x',
    url: 'https://example.com/',
    headers: {},
    eventType: 'x',
    payload: {},
    description: '',
    since: new Date().toISOString(),
  }
  const stranger = await createToken({ secret: JWT_SECRET, subject: newId('org') })
  for (const one of withToken()) {
    for (const token of ['', 'x.y.z']) {
      const { status, json } = await api.call(one.method, `${pathOf(one)}/`, one.body && {}, token)
      assert.deepEqual([status, json.code, typeof json.detail], [401, 'authentication_failed', 'string'], one.name)
    }
    // PUT of what is not there creates it.
    if (!one.path.includes('{app_id}') || (one.method === 'PUT' && one.path === '/app/{app_id}')) continue
    const { status, json } = await api.call(one.method, pathOf(one), one.body && any, stranger)
    assert.deepEqual([status, json.code], [404, 'not_found'], one.name)
  }
})
