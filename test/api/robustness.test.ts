import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import { startApi, type Harness } from './harness.ts'

let api: Harness
let app: string
let endpoint: string
let message: string
before(async () => {
  api = await startApi()
  app = (await api.svix.application.create({ name: 'Robust' })).id
  endpoint = (await api.svix.endpoint.create(app, { url: 'https://example.com/' })).id
  message = (await api.svix.message.create(app, { eventType: 'x', payload: {} })).id
})
after(() => api.close())

const NASTY: unknown[] = [
  null,
  true,
  0,
  -1,
  1.5,
  1e308,
  '',
  'a\u0000b',
  '\ud800',
  '💥',
  'x'.repeat(5000),
  [],
  [null],
  {},
  { a: null },
  { '\u0000': '\u0000' },
  { '\ud800': 'a' },
  { a: '\ud800' },
  { '1': { a: ['\udfff', '\u0000'] } },
  { ['__proto__x']: 1 },
]
const VALID = {
  name: 'n',
  url: 'https://example.com/',
  description: 'd',
  eventType: 'x',
  payload: {},
  headers: {},
  since: new Date().toISOString(),
}

const APPLICATION = 'name uid throttleRate metadata'
const ENDPOINT = 'url uid description version disabled eventTypes channels throttleRate metadata secret headers retrySchedule timeoutMs'
const EVENT_TYPE = 'name description archived deprecated featureFlag featureFlags groupName schemas'

test('no body, however strange, is answered with a server error', async () => {
  const routes: [string, string, string][] = [
    ['POST', '/app', APPLICATION],
    ['PUT', `/app/${app}`, APPLICATION],
    ['PATCH', `/app/${app}`, APPLICATION],
    ['POST', `/app/${app}/endpoint`, ENDPOINT],
    ['PATCH', `/app/${app}/endpoint/${endpoint}`, ENDPOINT],
    ['PUT', `/app/${app}/endpoint/${endpoint}`, 'url'],
    ['PUT', `/app/${app}/endpoint/${endpoint}/headers`, 'headers'],
    ['PATCH', `/app/${app}/endpoint/${endpoint}/headers`, 'headers'],
    ['POST', `/app/${app}/endpoint/${endpoint}/secret/rotate`, 'key gracePeriodSeconds'],
    ['POST', `/app/${app}/endpoint/${endpoint}/recover`, 'since until'],
    ['POST', `/app/${app}/endpoint/${endpoint}/send-example`, 'eventType'],
    ['POST', '/event-type', EVENT_TYPE],
    ['PUT', '/event-type/x', EVENT_TYPE],
    ['PATCH', '/event-type/x', EVENT_TYPE],
    ['POST', `/app/${app}/msg`, 'eventType eventId payload channels payloadRetentionPeriod transformationsParams application'],
    ['POST', `/app/${app}/dead-letter/redrive`, 'endpointId messageIds'],
    ['POST', `/auth/app-portal-access/${app}`, 'featureFlags application'],
  ]
  for (const [method, path, fields] of routes) {
    const bodies = [...NASTY, ...fields.split(' ').flatMap((field) => NASTY.map((value) => ({ ...VALID, [field]: value })))]
    for (const body of bodies) {
      const { status } = await api.call(method, path, JSON.stringify(body))
      assert.ok(status < 500, `${method} ${path} ${JSON.stringify(body).slice(0, 200)}: ${status}`)
    }
  }
})

test('no query or path, however strange, is answered with a server error', async () => {
  const lists = [
    '/app',
    `/app/${app}/endpoint`,
    `/app/${app}/msg`,
    '/event-type',
    `/app/${app}/attempt/msg/${message}`,
    `/app/${app}/attempt/endpoint/${endpoint}`,
  ]
  lists.push(
    `/app/${app}/endpoint/${endpoint}/msg`,
    `/app/${app}/msg/${message}/endpoint`,
    `/app/${app}/dead-letter`,
    `/app/${app}/endpoint/${endpoint}/stats`,
    `/app/${app}/endpoint/${endpoint}/stats/history`,
    `/app/${app}/stats/history`,
  )
  const names = [
    'limit',
    'iterator',
    'order',
    'before',
    'after',
    'channel',
    'event_types',
    'event_types[]',
    'status',
    'status_code_class',
    'with_content',
    'endpoint_id',
    'since',
    'until',
    'include_archived',
    'grain',
  ]
  const values = [
    '',
    '-',
    '0',
    '-1',
    '1e9',
    '%00',
    '%ff',
    'a%20b',
    '9'.repeat(40),
    '0001-01-01T00:00:00Z',
    '9999-12-31T23:59:59Z',
    '2020-13-45T99:99:99Z',
    "'; DROP TABLE message",
    'null',
  ]
  for (const path of lists) {
    for (const name of names) {
      for (const value of values) {
        const { status } = await api.call('GET', `${path}?${name}=${value}`)
        assert.ok(status < 500, `${path}?${name}=${value}: ${status}`)
      }
    }
  }
  for (const part of ['%00', '%ff', '%2e%2e', '..', ' ', '%F0%9F%92%A5', 'x'.repeat(3000)]) {
    for (const path of [
      `/app/${part}`,
      `/app/${app}/endpoint/${part}`,
      `/app/${app}/msg/${part}`,
      `/event-type/${part}`,
      `/app/${app}/msg/${message}/attempt/${part}`,
    ]) {
      for (const method of ['GET', 'DELETE']) assert.ok((await api.call(method, path)).status < 500, `${method} ${path}`)
    }
  }
})

test('a request that is cut off stores nothing and leaves the server answering', async () => {
  const { hostname, port } = new URL(api.url)
  const socket = connect(Number(port), hostname)
  socket.write(
    `POST /api/v1/app/${app}/msg HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${api.token}\r\ncontent-length: 1000\r\n\r\n{"eventType":`,
  )
  await new Promise((resolve) => socket.once('connect', resolve))
  socket.destroy()
  assert.equal((await fetch(`${api.url}/api/v1/health`)).status, 200)
})

test('an error inside is told as {}', async () => {
  await api.pool.query('ALTER TABLE event_type RENAME TO hidden')
  const broken = await api.call('GET', '/event-type')
  assert.deepEqual([broken.status, broken.json], [500, {}])
  await api.pool.query('ALTER TABLE hidden RENAME TO event_type')
  assert.equal((await api.call('GET', '/event-type')).status, 200)
})
