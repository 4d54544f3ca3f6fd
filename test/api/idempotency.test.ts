import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createToken } from '../../api/token.ts'
import { newId } from '../../domain/ids.ts'
import { JWT_SECRET, startApi, type Answer, type Harness } from './harness.ts'

let api: Harness
let app: string
before(async () => {
  api = await startApi()
  app = (await api.svix.application.create({ name: 'Idempotent' })).id
})
after(() => api.close())

interface Replied {
  readonly status: number
  readonly text: string
  readonly json: Answer
}

async function request(
  path: string,
  key: string | undefined,
  body: unknown,
  options: { token?: string; method?: string } = {},
): Promise<Replied> {
  const response = await fetch(`${api.url}/api/v1${path}`, {
    method: options.method ?? 'POST',
    headers: { authorization: `Bearer ${options.token ?? api.token}`, ...(key === undefined ? {} : { 'idempotency-key': key }) },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
  const text = await response.text()
  return { status: response.status, text, json: (text === '' ? {} : JSON.parse(text)) as Answer }
}

const count = async (table: 'message' | 'outbox' | 'application'): Promise<number> =>
  (await api.pool.query<{ count: number }>(`SELECT count(*) AS count FROM ${table}`)).rows[0]!.count

test('a repeated request is given the first answer, whatever its body', async () => {
  const first = await request('/app', 'create-1', { name: 'One' })
  assert.equal(first.status, 201)
  for (const body of [{ name: 'One' }, { name: 'Another' }, {}, 'not JSON']) {
    assert.deepEqual(await request('/app', 'create-1', body), first)
  }
  assert.equal((await request('/app', 'create-2', { name: 'One' })).json.id === first.json.id, false)
})

test('a path with a trailing slash is the same path', async () => {
  const first = await request('/app', 'slashed', { name: 'One' })
  assert.deepEqual(await request('/app/', 'slashed', { name: 'Two' }), first)
  const { id } = first.json
  const message = await request(`/app/${id}/msg?with_content=true`, 'slashed', { eventType: 'x', payload: {} })
  assert.deepEqual(await request(`/app/${id}/msg/?with_content=true`, 'slashed', { eventType: 'y', payload: {} }), message)
})

test('a key belongs to its token, path and query, and to POST', async () => {
  const key = 'scoped'
  const first = await request('/app', key, { name: 'Scoped' })
  const again = await createToken({ secret: JWT_SECRET, subject: api.orgId, expiresInS: 3600 })
  const others = [
    await request('/app', key, { name: 'Scoped' }, { token: again }),
    await request('/app?get_if_exists=true', key, { name: 'Scoped' }),
    await request(`/app/${first.json.id}`, key, { name: 'Put' }, { method: 'PUT' }),
    await request(`/app/${first.json.id}`, key, { name: 'Patched' }, { method: 'PATCH' }),
  ]
  assert.deepEqual(
    others.map((one) => [one.status, one.json['name']]),
    [
      [201, 'Scoped'],
      [201, 'Scoped'],
      [200, 'Put'],
      [200, 'Patched'],
    ],
  )
  assert.equal(new Set([first, others[0], others[1]].map((one) => one?.json.id)).size, 3)
  const stranger = await createToken({ secret: JWT_SECRET, subject: newId('org') })
  assert.notEqual((await request('/app', key, { name: 'Scoped' }, { token: stranger })).json.id, first.json.id)
})

test('what is refused is not kept', async () => {
  assert.equal((await request('/app', 'refused', { name: '' })).status, 422)
  assert.equal((await request('/app', 'refused', { name: 'Good' })).status, 201)
  assert.equal((await request('/app/nothing/endpoint', 'refused', { url: 'https://example.com' })).status, 404)
  await api.svix.application.create({ name: 'x', uid: 'nothing' })
  assert.equal((await request('/app/nothing/endpoint', 'refused', { url: 'https://example.com' })).status, 201)
})

test('requests with one key at the same time are served once', async () => {
  const before = await count('application')
  const answers = await Promise.all(Array.from({ length: 8 }, () => request('/app', 'at-once', { name: 'At once' })))
  assert.deepEqual(new Set(answers.map((one) => `${one.status} ${one.text}`)).size, 1)
  assert.equal(answers[0]!.status, 201)
  assert.equal(await count('application'), before + 1)
})

test('a request whose process is gone keeps its key until the claim ends, and the next one is served then', async () => {
  assert.equal((await request('/app', 'lost', { name: 'Lost' })).status, 201)
  await api.pool.query(`UPDATE idempotency_key SET status = NULL, body_cipher = NULL, expires_at = now() + interval '300 ms' WHERE hash = (
    SELECT hash FROM idempotency_key WHERE status = 201 ORDER BY expires_at DESC LIMIT 1)`)
  assert.equal((await request('/app', 'lost', { name: 'Taken over' })).json['name'], 'Taken over')
})

test('an answer is kept for twelve hours, encrypted, and forgotten then', async () => {
  const path = `/auth/app-portal-access/${app}`
  const first = await request(path, 'portal', {})
  const token = first.json['token'] as string
  assert.deepEqual((await request(path, 'portal', {})).json['token'], token)
  const { rows } = await api.pool.query<{ hours: number; text: string }>(
    `SELECT round(extract(epoch FROM expires_at - now()) / 3600)::int AS hours, idempotency_key::text AS text FROM idempotency_key
     WHERE message_id IS NULL ORDER BY expires_at DESC LIMIT 1`,
  )
  assert.equal(rows[0]!.hours, 12)
  for (const secret of [token, token.split('.')[2]!, api.token, 'portal']) {
    assert.ok(!rows[0]!.text.includes(secret) && !rows[0]!.text.includes(Buffer.from(secret).toString('hex')))
  }
  await api.pool.query('UPDATE idempotency_key SET expires_at = now()')
  const next = await request(path, 'portal', { featureFlags: ['later'] })
  assert.notEqual(next.json['token'], token)
})

test('an answer without a body, and one with an empty object, are given again as they were', async () => {
  const endpoint = await api.svix.endpoint.create(app, { url: 'https://example.com/a' })
  const message = await api.svix.message.create(app, { eventType: 'a.b', payload: {} })
  const path = `/app/${app}/msg/${message.id}/endpoint/${endpoint.id}/resend`
  const before = await count('outbox')
  for (let i = 0; i < 2; i++) {
    const answer = await request(path, 'resend', '')
    assert.deepEqual([answer.status, answer.text], [202, '{}'])
  }
  assert.equal(await count('outbox'), before + 1)
})

test('a message is published once with a key, whatever the body of the next request, its answer made of what was stored', async () => {
  const before = [await count('message'), await count('outbox')]
  const path = `/app/${app}/msg`
  const first = await request(path, 'publish', { eventType: 'a.b', payload: { n: 1 }, eventId: 'event-1', channels: ['x'] })
  assert.equal(first.status, 202)
  const bodies = [
    { eventType: 'a.b', payload: { n: 1 }, eventId: 'event-1', channels: ['x'] },
    { eventType: 'other', payload: { n: 2 } },
    { eventType: 'other', payload: { n: 2 }, eventId: 'event-2' },
    { eventType: '' },
    'not JSON',
  ]
  for (const body of bodies) {
    const again = await request(path, 'publish', body)
    assert.deepEqual([again.status, again.json], [202, first.json])
  }
  const bare = await request(`${path}?with_content=false`, 'publish', { eventType: 'a.b', payload: { n: 1 } })
  assert.notEqual(bare.json.id, first.json.id)
  const bareAgain = await request(`${path}?with_content=false`, 'publish', { eventType: 'a.b', payload: { n: 1 } })
  assert.deepEqual([bareAgain.json.id, bareAgain.json.payload], [bare.json.id, {}])
  assert.deepEqual([await count('message'), await count('outbox')], [before[0]! + 2, before[1]! + 2])
  assert.equal((await request(path, 'later', { eventType: 'a.b', payload: {}, eventId: 'event-2' })).status, 202)
})

test('a message is published once by many requests at the same time', async () => {
  const before = await count('message')
  const body = { eventType: 'a.b', payload: { n: 1 }, eventId: 'together' }
  const answers = await Promise.all(Array.from({ length: 10 }, () => request(`/app/${app}/msg`, 'together', body)))
  assert.equal(new Set(answers.map((one) => `${one.status} ${JSON.stringify(one.json)}`)).size, 1)
  assert.equal(answers[0]!.status, 202)
  assert.equal(await count('message'), before + 1)
})

test('a refused publish leaves its key free', async () => {
  const path = `/app/${app}/msg`
  assert.equal((await request(path, 'free', { eventType: 'a.b' })).status, 422)
  assert.equal((await request('/app/nowhere/msg', 'free', { eventType: 'a.b', payload: {} })).status, 404)
  assert.equal((await request(path, 'taken', { eventType: 'a.b', payload: {}, eventId: 'taken' })).status, 202)
  assert.equal((await request(path, 'free', { eventType: 'a.b', payload: {}, eventId: 'taken' })).status, 409)
  assert.equal((await request(path, 'free', { eventType: 'a.b', payload: {} })).status, 202)
})

test('a key has at most 256 characters, and an empty one is none', async () => {
  for (const path of ['/app', `/app/${app}/msg`]) {
    const { status, json } = await request(path, 'k'.repeat(257), { name: 'x', eventType: 'x', payload: {} })
    assert.deepEqual([status, json.detail[0]?.loc], [422, ['header', 'idempotency-key']])
    const kept = await request(path, 'k'.repeat(256), { name: 'x', eventType: 'x', payload: {} })
    assert.equal(kept.status < 300, true)
  }
  const empty = [await request('/app', '', { name: 'x' }), await request('/app', '', { name: 'x' })]
  assert.notEqual(empty[0]!.json.id, empty[1]!.json.id)
})
