import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createToken } from '../../api/token.ts'
import { newId } from '../../domain/ids.ts'
import { enqueueRedeliveries } from '../../storage/outbox.ts'
import { releaseDue } from '../../storage/scheduled.ts'
import { JWT_SECRET, startApi, type Harness } from './harness.ts'

const DAY_MS = 86_400_000
let api: Harness
let app: string

before(async () => {
  api = await startApi()
  app = (await api.svix.application.create({ name: 'Extras', uid: 'extras' })).id
})
after(() => api.close())

const publish = (fields: object, headers: Record<string, string> = {}) =>
  fetch(`${api.url}/api/v1/app/${app}/msg`, {
    method: 'POST',
    headers: { authorization: `Bearer ${api.token}`, ...headers },
    body: JSON.stringify({ eventType: 'a', payload: { n: 1 }, ...fields }),
  })

const inMs = (ms: number) => new Date(Date.now() + ms).toISOString()

async function placeOf(id: string) {
  const { rows } = await api.pool.query<{ outbox: boolean; scheduled: boolean; keptDays: number }>(
    `SELECT EXISTS (SELECT FROM outbox WHERE message_id = m.id) AS outbox,
       EXISTS (SELECT FROM scheduled_message WHERE message_id = m.id) AS scheduled,
       round(extract(epoch FROM m.expires_at - m.created_at) / 86400)::int AS "keptDays"
     FROM message m WHERE id = $1`,
    [id],
  )
  return rows[0]
}

test('a message with a time waits for it, shows it, and keeps its payload as long after it', async () => {
  const deliverAt = inMs(10 * DAY_MS)
  const response = await publish({ deliverAt, payloadRetentionPeriod: 5 })
  const message = (await response.json()) as { id: string; deliverAt: string }
  assert.deepEqual([response.status, message.deliverAt], [202, deliverAt])
  assert.deepEqual(await placeOf(message.id), { outbox: false, scheduled: true, keptDays: 15 })
  assert.deepEqual((await api.call('GET', `/app/${app}/msg/${message.id}`)).json, message)
  assert.equal((await api.svix.message.get(app, message.id)).deliverAt?.toISOString(), deliverAt)
})

test('a time that has passed is now, one that is too far or no time is refused', async () => {
  for (const deliverAt of [inMs(-DAY_MS), null]) {
    const message = (await (await publish({ deliverAt })).json()) as { id: string; deliverAt?: string }
    assert.deepEqual([message.deliverAt, await placeOf(message.id)], [undefined, { outbox: true, scheduled: false, keptDays: 90 }])
  }
  for (const deliverAt of [inMs(31 * DAY_MS), 'tomorrow', 17, '2026-13-01T00:00:00Z']) {
    assert.equal((await publish({ deliverAt })).status, 422, String(deliverAt))
  }
})

test('an event id and an idempotency key hold for messages that wait, too', async () => {
  const deliverAt = inMs(DAY_MS)
  assert.equal((await publish({ deliverAt, eventId: 'later' })).status, 202)
  assert.equal((await publish({ deliverAt, eventId: 'later' })).status, 409)
  assert.equal((await publish({ eventId: 'later' })).status, 409)
  const keyed = async (fields: object) => (await publish(fields, { 'idempotency-key': 'later' })).json()
  const first = await keyed({ deliverAt })
  assert.deepEqual(await keyed({ deliverAt }), first)
  assert.deepEqual(await keyed({ payload: { other: true } }), first)
})

test('a cancellation needs something to choose by, and reaches one application', async () => {
  const cancel = (body: object, path = app) => api.call('POST', `/app/${path}/msg/cancel`, body)
  for (const body of [
    {},
    { msgIds: null },
    { msgIds: [] },
    { msgIds: ['msg_1'], channel: 'x' },
    { eventTypes: [] },
    { before: 'x' },
    { msgIds: Array.from({ length: 1001 }, () => 'msg_1') },
  ]) {
    assert.equal((await cancel(body)).status, 422, JSON.stringify(body).slice(0, 40))
  }
  const { id } = (await (await publish({ deliverAt: inMs(DAY_MS), eventType: 'cancel.me' })).json()) as { id: string }
  const other = (await api.svix.application.create({ name: 'Other' })).id
  assert.equal((await cancel({ msgIds: [id] }, other)).json.data[0]?.['result'], 'not_found')
  assert.deepEqual((await cancel({ eventTypes: ['cancel.me'], after: inMs(-DAY_MS), before: inMs(DAY_MS) })).json, {
    data: [{ msgId: id, result: 'canceled', scheduled: true, deliveries: 0 }],
    done: true,
  })
  assert.equal((await placeOf(id))?.scheduled, false)
  assert.equal((await cancel({ msgIds: [id] }, 'nobody')).status, 404)
})

test('a broadcast is registered with all that it needs, and refused where it is not clear', async () => {
  const message = { eventType: 'news', payload: { secret: 1 } }
  const broadcast = (body: object) => api.call('POST', '/msg/broadcast', body)
  const { status, json } = await broadcast({ message, applications: ['extras', app], metadata: { plan: 'gold' } })
  assert.deepEqual([status, json['task'], json['status']], [202, 'message.broadcast', 'running'])
  const [task] = api.tasks.filter((one) => one.id === json.id)
  assert.ok(task !== undefined && !JSON.stringify(task).includes('secret'))
  assert.deepEqual((task.input as { applicationIds: string[] }).applicationIds, [app])
  const { rows } = await api.pool.query<{ payload: string }>('SELECT payload FROM broadcast WHERE task_id = $1', [json.id])
  assert.equal(rows[0]?.payload, '{"secret":1}')
  const taskCount = api.tasks.length
  for (const body of [
    {},
    { message: {} },
    { message, applications: [] },
    { message, applications: ['nobody'] },
    { message, metadata: { plan: 1 } },
    { message: { ...message, deliverAt: inMs(DAY_MS) } },
  ]) {
    assert.equal((await broadcast(body)).status, 422, JSON.stringify(body))
  }
  assert.equal(api.tasks.length, taskCount)
})

test('the token of an application publishes, cancels and broadcasts nothing', async () => {
  const token = await createToken({ secret: JWT_SECRET, subject: app, org: api.orgId })
  for (const path of [`/app/${app}/msg/batch`, `/app/${app}/msg/cancel`, `/app/${app}/msg/precheck/active`, '/msg/broadcast']) {
    assert.equal((await api.call('POST', path, {}, token)).status, 403, path)
  }
})

test('another organisation finds nothing', async () => {
  const token = await createToken({ secret: JWT_SECRET, subject: newId('org') })
  const event = { eventType: 'a', payload: {} }
  const bodies = { batch: { messages: [event] }, cancel: { msgIds: ['msg_1'] }, 'precheck/active': { eventType: 'a' } }
  for (const [path, body] of Object.entries(bodies)) {
    assert.equal((await api.call('POST', `/app/${app}/msg/${path}`, body, token)).status, 404, path)
  }
  assert.equal((await api.call('POST', '/msg/broadcast', { message: event, applications: [app] }, token)).status, 422)
})

test('a message has the priority that it was published with, medium without one, also when its time comes or it is sent again', async () => {
  const priorityOf = async (id: string) => {
    const { rows } = await api.pool.query<{ message: string; outbox: string | null }>(
      'SELECT m.priority AS message, o.priority AS outbox FROM message m LEFT JOIN outbox o ON o.message_id = m.id WHERE m.id = $1',
      [id],
    )
    return rows[0]
  }
  for (const [given, stored] of [
    ['high', 'high'],
    ['low', 'low'],
    [null, 'medium'],
    [undefined, 'medium'],
  ] as const) {
    const { id } = (await (await publish({ priority: given })).json()) as { id: string }
    assert.deepEqual(await priorityOf(id), { message: stored, outbox: stored })
  }
  const { id } = (await (await publish({ priority: 'high', deliverAt: inMs(DAY_MS) })).json()) as { id: string }
  assert.deepEqual(await priorityOf(id), { message: 'high', outbox: null })
  await api.pool.query('UPDATE scheduled_message SET deliver_at = now()')
  await releaseDue(api.pool)
  assert.deepEqual(await priorityOf(id), { message: 'high', outbox: 'high' })
  await api.pool.query('DELETE FROM outbox WHERE message_id = $1', [id])
  const again = { messageId: id, appId: app, eventType: 'a', endpointId: 'ep_1', trigger: 1, retried: true } as const
  await enqueueRedeliveries(api.pool, [again], 'request')
  assert.deepEqual(await priorityOf(id), { message: 'high', outbox: 'high' })
  assert.equal((await publish({ priority: 'urgent' })).status, 422)
})
