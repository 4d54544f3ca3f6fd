import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { startApi, type Harness } from './harness.ts'

let api: Harness
let app: string
before(async () => {
  api = await startApi()
  app = (await api.svix.application.create({ name: 'Endpoints' })).id
  for (const name of ['user.signup', 'user.deleted', 'old.type']) await api.svix.eventType.create({ name, description: name })
  await api.svix.eventType.delete('old.type')
})
after(() => api.close())

const URL_OK = 'https://example.com/hook'

test('an endpoint is created with defaults and the aliases of older clients, read, patched, replaced and deleted', async () => {
  const { svix } = api
  const { status, json: created } = await api.call('POST', `/app/${app}/endpoint`, {
    url: URL_OK,
    filterTypes: ['user.signup'],
    rateLimit: 5,
    uid: 'first',
  })
  assert.equal(status, 201)
  assert.match(created.id, /^ep_[0-9A-Za-z]{27}$/)
  const expected = {
    version: 1,
    description: '',
    disabled: false,
    eventTypes: ['user.signup'],
    filterTypes: ['user.signup'],
    channels: null,
    throttleRate: 5,
    metadata: {},
  }
  for (const [field, value] of Object.entries({ ...expected, rateLimit: 5 })) assert.deepEqual(created[field], value, field)
  assert.deepEqual((await svix.endpoint.get(app, 'first')).id, created.id)
  const patched = await svix.endpoint.patch(app, 'first', { channels: ['a', 'b', 'a'], throttleRate: null, metadata: { k: 'v' } })
  assert.deepEqual(
    [patched.channels, patched.throttleRate, patched.metadata, patched.eventTypes],
    [['a', 'b'], null, { k: 'v' }, ['user.signup']],
  )
  const key = (await svix.endpoint.getSecret(app, 'first')).key
  await svix.endpoint.setHeaders(app, 'first', { headers: { 'X-Kept': 'yes' } })
  const put = await svix.endpoint.upsert(app, 'first', { url: 'http://example.org/', uid: 'first' })
  assert.deepEqual([put.id, put.url, put.channels, put.eventTypes, put.metadata], [created.id, 'http://example.org/', null, null, {}])
  assert.equal((await svix.endpoint.getSecret(app, 'first')).key, key)
  assert.deepEqual((await svix.endpoint.getHeaders(app, 'first')).headers, { 'X-Kept': 'yes' })
  assert.equal((await api.call('PUT', `/app/${app}/endpoint/unknown`, { url: URL_OK })).status, 201)
  assert.equal((await api.call('POST', `/app/${app}/endpoint`, { url: URL_OK, uid: 'first' })).status, 409)
  await svix.endpoint.delete(app, 'first')
  assert.equal((await api.call('GET', `/app/${app}/endpoint/first`)).status, 404)
})

test('an endpoint has its own retry schedule in seconds and its own timeout', async () => {
  const { json } = await api.call('POST', `/app/${app}/endpoint`, { url: URL_OK, retrySchedule: [1, 0.5, 60], timeoutMs: 5000 })
  assert.deepEqual([json['retrySchedule'], json['timeoutMs']], [[1, 0.5, 60], 5000])
  const { rows } = await api.pool.query<{ retry_schedule_ms: number[] }>('SELECT retry_schedule_ms FROM endpoint WHERE id = $1', [json.id])
  assert.deepEqual(rows[0]?.retry_schedule_ms, [1000, 500, 60_000])
  const cleared = await api.call('PATCH', `/app/${app}/endpoint/${json.id}`, { retrySchedule: null, timeoutMs: null })
  assert.deepEqual([cleared.json['retrySchedule'], cleared.json['timeoutMs']], [undefined, undefined])
  for (const body of [{ retrySchedule: [0] }, { timeoutMs: 1 }, { timeoutMs: 600_000 }, { retrySchedule: Array<number>(40).fill(1) }]) {
    assert.equal((await api.call('PATCH', `/app/${app}/endpoint/${json.id}`, body)).status, 422)
  }
})

test('an endpoint is refused for a bad url, unknown or archived event types, channels and versions out of range', async () => {
  const cases: [Record<string, unknown>, string][] = [
    [{ url: 'not a url' }, 'url'],
    [{ url: 'ftp://example.com' }, 'url'],
    [{ url: 'https://user:pass@example.com' }, 'url'],
    [{ url: `https://example.com/${'x'.repeat(3000)}` }, 'url'],
    ...[
      ' https://example.com',
      'https://example.com/ ',
      'https://example.com/\n',
      'https://example.com/\0',
      'https://example.com/\ud800',
    ].map((url): [Record<string, unknown>, string] => [{ url }, 'url']),
    [{ url: URL_OK, eventTypes: [] }, 'event_types'],
    [{ url: URL_OK, eventTypes: ['no.such'] }, 'event_types'],
    [{ url: URL_OK, eventTypes: ['old.type'] }, 'event_types'],
    [{ url: URL_OK, eventTypes: ['bad type'] }, 'event_types'],
    [{ url: URL_OK, channels: [] }, 'channels'],
    [{ url: URL_OK, channels: Array.from({ length: 11 }, (_, i) => `c${i}`) }, 'channels'],
    [{ url: URL_OK, version: 0 }, 'version'],
    [{ url: URL_OK, secret: 'whsec_short' }, 'secret'],
    [{ url: URL_OK, secret: 'MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' }, 'secret'],
    [{ url: URL_OK, uid: 'ep_mine' }, 'uid'],
    [{ url: URL_OK, throttleRate: 0 }, 'throttle_rate'],
  ]
  for (const [body, field] of cases) {
    const { status, json } = await api.call('POST', `/app/${app}/endpoint`, body)
    assert.deepEqual(
      [status, json.detail[0]?.loc.slice(0, 2), json.detail[0]?.type],
      [422, ['body', field], 'value_error'],
      JSON.stringify(body),
    )
  }
  assert.equal((await api.call('POST', `/app/${app}/endpoint`, {})).json.detail[0]?.type, 'value_error.jsondecode')
  const endpoint = await api.svix.endpoint.create(app, { url: URL_OK })
  for (const field of ['description', 'url', 'disabled']) {
    assert.equal((await api.call('PATCH', `/app/${app}/endpoint/${endpoint.id}`, { [field]: null })).status, 422, field)
  }
})

test('disabling and enabling leave the time of the change behind, other patches do not', async () => {
  const { id } = await api.svix.endpoint.create(app, { url: URL_OK })
  const read = async () =>
    (await api.pool.query<{ at: Date | null }>('SELECT disabled_at AS at FROM endpoint WHERE id = $1', [id])).rows[0]!.at
  assert.equal(await read(), null)
  await api.svix.endpoint.patch(app, id, { disabled: true })
  const disabledAt = await read()
  assert.ok(disabledAt)
  await api.svix.endpoint.patch(app, id, { description: 'still off' })
  assert.deepEqual(await read(), disabledAt)
  await api.svix.endpoint.patch(app, id, { disabled: false })
  assert.ok((await read())! > disabledAt)
})

test('endpoints are listed newest first', async () => {
  const own = (await api.svix.application.create({ name: 'List' })).id
  const ids: string[] = []
  for (let i = 0; i < 3; i++) ids.push((await api.svix.endpoint.create(own, { url: URL_OK })).id)
  ids.sort().reverse()
  const list = await api.svix.endpoint.list(own, { limit: 2 })
  assert.deepEqual([list.data.map((one) => one.id), list.done], [ids.slice(0, 2), false])
  const next = await api.svix.endpoint.list(own, { limit: 2, iterator: list.iterator })
  assert.deepEqual([next.data.map((one) => one.id), next.done], [ids.slice(2), true])
})

test('a secret is generated, given or an ed25519 one, kept encrypted, and rotated with a grace period', async () => {
  const given = `whsec_${Buffer.alloc(24, 7).toString('base64')}`
  const { id } = await api.svix.endpoint.create(app, { url: URL_OK, secret: given })
  assert.equal((await api.svix.endpoint.getSecret(app, id)).key, given)
  const made = await api.svix.endpoint.create(app, { url: URL_OK })
  assert.match((await api.svix.endpoint.getSecret(app, made.id)).key, /^whsec_[A-Za-z0-9+/]{32}$/)
  const ed25519 = `whsk_${Buffer.alloc(32, 9).toString('base64')}`
  const signed = await api.svix.endpoint.create(app, { url: URL_OK, secret: ed25519 })
  assert.match((await api.svix.endpoint.getSecret(app, signed.id)).key, /^whpk_/)
  const { rows } = await api.pool.query<{ cipher: Buffer }>('SELECT secret_cipher AS cipher FROM endpoint_secret WHERE endpoint_id = $1', [
    id,
  ])
  assert.ok(!rows[0]!.cipher.toString('latin1').includes(given.slice(6)))
  await api.svix.endpoint.rotateSecret(app, id, {})
  assert.notEqual((await api.svix.endpoint.getSecret(app, id)).key, given)
  const live = await api.pool.query<{ hours: number }>(
    'SELECT round(extract(epoch FROM expires_at - now()) / 3600)::int AS hours FROM endpoint_secret WHERE endpoint_id = $1 AND expires_at IS NOT NULL',
    [id],
  )
  assert.deepEqual(live.rows, [{ hours: 24 }])
  const rotated = await api.call('POST', `/app/${app}/endpoint/${id}/secret/rotate`, { key: given, gracePeriodSeconds: 0 })
  assert.deepEqual([rotated.status, rotated.json.key], [200, given])
  assert.equal((await api.call('POST', `/app/${app}/endpoint/${id}/secret/rotate`)).status, 422)
  assert.equal((await api.call('POST', `/app/${app}/endpoint/${id}/secret/rotate`, { gracePeriodSeconds: 604_801 })).status, 422)
})

test('the eleventh old secret that still signs is refused', async () => {
  const { id } = await api.svix.endpoint.create(app, { url: URL_OK })
  for (let i = 0; i < 10; i++) await api.svix.endpoint.rotateSecret(app, id, {})
  const { status, json } = await api.call('POST', `/app/${app}/endpoint/${id}/secret/rotate`, {})
  assert.deepEqual([status, json.code], [400, 'limit_reached'])
})

test('custom headers are set, patched and shown with sensitive values masked, and kept encrypted', async () => {
  const { id } = await api.svix.endpoint.create(app, { url: URL_OK })
  const path = `/app/${app}/endpoint/${id}/headers`
  await api.svix.endpoint.setHeaders(app, id, { headers: { 'X-One': '1', Authorization: 'Bearer hidden', 'x-api-key': 'hidden' } })
  const shown = await api.svix.endpoint.getHeaders(app, id)
  assert.deepEqual([shown.headers, [...shown.sensitive].sort()], [{ 'X-One': '1' }, ['Authorization', 'x-api-key']])
  assert.equal((await api.call('PATCH', path, { headers: { 'x-one': '2', 'X-Two': '3', Authorization: null } })).status, 204)
  assert.deepEqual((await api.call('GET', path)).json, { headers: { 'x-one': '2', 'X-Two': '3' }, sensitive: ['x-api-key'] })
  const { rows } = await api.pool.query<{ cipher: Buffer }>('SELECT headers_cipher AS cipher FROM endpoint WHERE id = $1', [id])
  assert.ok(!rows[0]!.cipher.toString('latin1').includes('hidden'))
  const names =
    `User-Agent keep-alive proxy-authenticate proxy-authorization te trailers transfer-encoding upgrade age cache-control clear-site-data expires
    pragma warning content-length content-type content-encoding content-language content-location x-amz-a x-amzn-a x-google x-goog-a x-gfe x-azure-a x-fd-a
    x-svix-a svix-id webhook-id`.split(/\s+/)
  for (const name of [...names, 'bad name', '']) {
    const { status, json } = await api.call('PUT', path, { headers: { [name]: 'x' } })
    assert.deepEqual([status, json.detail[0]?.type], [422, 'value_error'], name)
  }
  assert.equal((await api.call('PUT', path, { headers: { 'X-A': 'x'.repeat(4097) } })).status, 422)
  assert.equal((await api.call('PUT', path, { headers: { 'X-A': 'a\r\nb' } })).status, 422)
  await api.svix.endpoint.setHeaders(app, id, { headers: {} })
  assert.deepEqual((await api.call('GET', path)).json, { headers: {}, sensitive: [] })
})

test('every change of an application or endpoint is announced to all processes', async () => {
  const heard: (string | undefined)[] = []
  const client = await api.pool.connect()
  try {
    client.on('notification', (message) => heard.push(message.payload))
    await client.query('LISTEN tidings_config')
    const own = (await api.svix.application.create({ name: 'Heard' })).id
    const { id } = await api.svix.endpoint.create(own, { url: URL_OK })
    await api.svix.endpoint.patch(own, id, { description: 'x' })
    await api.svix.endpoint.setHeaders(own, id, { headers: { 'X-A': 'b' } })
    await api.svix.endpoint.rotateSecret(own, id, {})
    await api.svix.endpoint.upsert(own, id, { url: URL_OK })
    await api.svix.endpoint.delete(own, id)
    await api.svix.application.patch(own, { name: 'y' })
    await api.svix.application.delete(own)
    await client.query('SELECT 1')
    assert.deepEqual(heard, Array<string>(9).fill(own))
  } finally {
    client.release(true)
  }
})

test('a URL that no delivery could go to is refused when it is set, a name only where its port is', async () => {
  const app = await api.svix.application.create({ name: 'Guarded' })
  const path = `/app/${app.id}/endpoint`
  const { json } = await api.call('POST', path, { url: 'https://example.com/' })
  const refused = [
    'http://127.0.0.1/',
    'http://[::ffff:10.0.0.1]/',
    'http://169.254.169.254/latest/meta-data/',
    'http://metadata.google.internal/',
    'https://example.com:22/',
    'https://user:secret@example.com/',
    'ftp://example.com/',
  ]
  for (const url of refused) {
    for (const [method, target] of [
      ['POST', path],
      ['PUT', `${path}/${json.id}`],
      ['PATCH', `${path}/${json.id}`],
    ] as const) {
      const answer = await api.call(method, target, { url })
      assert.equal(answer.status, 422, `${method} ${url}`)
      assert.deepEqual(answer.json.detail[0]?.loc, ['body', 'url'])
    }
  }
  for (const url of ['https://not-registered-yet.example/', 'https://example.com:8443/', 'http://8.8.8.8/']) {
    assert.equal((await api.call('PUT', `${path}/${json.id}`, { url })).status, 200, url)
  }
})
