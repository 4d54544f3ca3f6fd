import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { after, before, test } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { LANES } from '../../domain/names.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { storeTogether } from '../../storage/scheduled.ts'
import { startService, type Service } from '../../workers/service.ts'
import { newMessage } from '../storage/rows.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

let service: TestService
let second: Service | undefined
let receiver: Receiver
let pool: Pool

before(async () => {
  receiver = await startReceiver((one) => ({ status: one.path.startsWith('/down') ? 500 : 200 }))
  service = await startTestService()
  pool = createPool(service.database.url, 2)
})
after(async () => {
  await pool.end()
  await second?.stop()
  await service.stop()
  await receiver.close()
})

async function call(method: string, path: string, body?: unknown): Promise<{ status: number; json: Record<string, unknown> }> {
  const response = await fetch(`${service.url}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${service.token}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  return { status: response.status, json: (await response.json()) as Record<string, unknown> }
}

async function applicationWith(path: string, endpoint: object = {}): Promise<string> {
  const { id } = await service.svix.application.create({ name: path, uid: path.slice(1) })
  const created = await call('POST', `/app/${id}/endpoint`, { url: `${receiver.url}${path}`, ...endpoint })
  assert.equal(created.status, 201, JSON.stringify(created.json))
  return id
}

const at = (path: string) => ({ matches: (one: { path: string }) => one.path === path })
const idsAt = (path: string) => receiver.received.filter((one) => one.path === path).map((one) => one.headers['webhook-id'])

async function publish(app: string, fields: object): Promise<string> {
  const { status, json } = await call('POST', `/app/${app}/msg`, { eventType: 'a', payload: {}, ...fields })
  assert.equal(status, 202, JSON.stringify(json))
  return json['id'] as string
}

const inMs = (ms: number) => new Date(Date.now() + ms).toISOString()

test('wildcards and payload filters decide which messages an endpoint gets', async () => {
  const app = await applicationWith('/wanted', { eventTypes: ['invoice.*'], filter: 'payload.amount > 100' })
  await publish(app, { eventType: 'invoice.paid', payload: { amount: 50 } })
  await publish(app, { eventType: 'invoice.paid', payload: { other: 1 } })
  await publish(app, { eventType: 'user.signup', payload: { amount: 500 } })
  const wanted = [
    await publish(app, { eventType: 'invoice.paid', payload: { amount: 150 } }),
    await publish(app, { eventType: 'invoice.item.added', payload: { amount: 200 } }),
  ]
  await receiver.waitFor(2, at('/wanted'))
  assert.deepEqual(new Set(idsAt('/wanted')), new Set(wanted))
})

test('a batch is delivered', async () => {
  const app = await applicationWith('/batch')
  const messages = Array.from({ length: 100 }, (_, i) => ({ eventType: 'a', payload: { i } }))
  const { status, json } = await call('POST', `/app/${app}/msg/batch`, { messages })
  assert.equal(status, 202)
  await receiver.waitFor(100, at('/batch'))
  assert.deepEqual(new Set(idsAt('/batch')), new Set((json['data'] as { id: string }[]).map((one) => one.id)))
  assert.equal(idsAt('/batch').length, 100)
})

test('an endpoint gets CloudEvents in the mode that it asks for, signed as they are sent', async () => {
  const modes = { '/structured': 'cloudevents-structured', '/binary': 'cloudevents-binary', '/plain': null }
  const app = (await service.svix.application.create({ name: 'modes' })).id
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  for (const [path, format] of Object.entries(modes))
    await call('POST', `/app/${app}/endpoint`, { url: `${receiver.url}${path}`, format, secret })
  const response = await fetch(`${service.url}/api/v1/app/${app}/msg`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.token}`, 'content-type': 'application/cloudevents+json' },
    body: JSON.stringify({ specversion: '1.0', id: 'ce-1', source: 'https://shop.example', type: 'order.placed', data: { n: 1 } }),
  })
  assert.equal(response.status, 202)
  const arrived = await receiver.waitFor(3, { matches: (one) => one.path in modes })
  for (const { headers, body } of arrived) new Webhook(secret).verify(body, headers)
  const [structured, binary, plain] = Object.keys(modes).map((path) => arrived.find((one) => one.path === path)!)
  const event = JSON.parse(structured!.body) as Record<string, unknown>
  assert.deepEqual([event['id'], event['source'], event['type'], event['data']], ['ce-1', 'https://shop.example', 'order.placed', { n: 1 }])
  assert.deepEqual([binary!.body, binary!.headers['ce-id'], binary!.headers['ce-source']], ['{"n":1}', 'ce-1', 'https://shop.example'])
  assert.deepEqual([plain!.body, plain!.headers['content-type'], plain!.headers['ce-id']], ['{"n":1}', 'application/json', undefined])
})

test('binary data of a CloudEvent arrives as its bytes, which the signature is over', async () => {
  const app = (await service.svix.application.create({ name: 'bytes' })).id
  const secret = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'
  const modes = { '/b-structured': 'cloudevents-structured', '/b-binary': 'cloudevents-binary', '/b-plain': null }
  for (const [path, format] of Object.entries(modes))
    await call('POST', `/app/${app}/endpoint`, { url: `${receiver.url}${path}`, format, secret })
  const bytes = new Uint8Array([0xff, 0xfe, 0, 0x7b])
  const response = await fetch(`${service.url}/api/v1/app/${app}/msg`, {
    method: 'POST',
    headers: {
      authorization: `Bearer ${service.token}`,
      'content-type': 'image/png',
      'ce-specversion': '1.0',
      'ce-id': 'ce-bytes',
      'ce-source': 'https://shop.example',
      'ce-type': 'picture.taken',
    },
    body: bytes,
  })
  assert.equal(response.status, 202)
  const arrived = await receiver.waitFor(3, { matches: (one) => one.path in modes })
  for (const { headers, bytes: body } of arrived) {
    const signed = Buffer.concat([Buffer.from(`${headers['webhook-id']}.${headers['webhook-timestamp']}.`), body])
    const signature = createHmac('sha256', Buffer.from(secret.slice('whsec_'.length), 'base64'))
      .update(signed)
      .digest('base64')
    assert.equal(headers['webhook-signature'], `v1,${signature}`)
  }
  const [document, binary, plain] = Object.keys(modes).map((path) => arrived.find((one) => one.path === path)!)
  const event = JSON.parse(document!.body) as Record<string, unknown>
  assert.deepEqual([event['data_base64'], event['datacontenttype']], [Buffer.from(bytes).toString('base64'), 'image/png'])
  assert.deepEqual(
    [binary!.bytes, binary!.headers['content-type'], binary!.headers['ce-id']],
    [Buffer.from(bytes), 'image/png', 'ce-bytes'],
  )
  assert.deepEqual([plain!.bytes, plain!.headers['content-type']], [Buffer.from(bytes), 'image/png'])
})

test('a message is delivered at its time, the earlier one first, whichever was published first', async () => {
  const app = await applicationWith('/timed')
  const deliverAt = inMs(3000)
  const late = await publish(app, { deliverAt })
  const early = await publish(app, { deliverAt: inMs(1000) })
  const now = await publish(app, {})
  const [, , third] = await receiver.waitFor(3, at('/timed'))
  assert.deepEqual(idsAt('/timed'), [now, early, late])
  assert.ok(third!.atMs >= Date.parse(deliverAt), `came ${Date.parse(deliverAt) - third!.atMs} ms early`)
  assert.equal((await call('GET', `/app/${app}/msg/${late}`)).json['deliverAt'], deliverAt)
})

test('what the schedule was not woken for is found by the sweep', async () => {
  const app = await applicationWith('/swept')
  const message = newMessage({ appId: app, deliverAtMs: Date.now() + 500 })
  await storeTogether(pool, [message])
  await receiver.waitFor(1, at('/swept'))
  assert.deepEqual(idsAt('/swept'), [message.id])
})

test('a cancelled message is not sent, and one that failed is not sent again', async () => {
  const app = await applicationWith('/down-cancelled', { retrySchedule: [3, 3] })
  const timed = await publish(app, { deliverAt: inMs(600_000) })
  const failed = await publish(app, {})
  await eventually(
    async () => (await pool.query(`SELECT FROM delivery WHERE message_id = $1 AND state = 'retrying'`, [failed])).rowCount,
    (waiting) => waiting === 1,
  )
  const { json } = await call('POST', `/app/${app}/msg/cancel`, { msgIds: [timed, failed, 'msg_unknown'] })
  assert.deepEqual(json, {
    data: [
      { msgId: timed, result: 'canceled', scheduled: true, deliveries: 0 },
      { msgId: failed, result: 'canceled', scheduled: false, deliveries: 1 },
      { msgId: 'msg_unknown', result: 'not_found', scheduled: false, deliveries: 0 },
    ],
    done: true,
  })
  const again = await call('POST', `/app/${app}/msg/cancel`, { msgIds: [failed] })
  assert.deepEqual(again.json['data'], [{ msgId: failed, result: 'unchanged', scheduled: false, deliveries: 0 }])
  // Its retry is due after the one that was cancelled.
  const fence = await publish(app, {})
  await receiver.waitFor(2, { matches: (one) => one.headers['webhook-id'] === fence })
  assert.equal(idsAt('/down-cancelled').filter((id) => id === failed).length, 1)
  assert.ok(!idsAt('/down-cancelled').includes(timed))
  // Who asks for it gets it.
  const [endpoint] = (await service.svix.endpoint.list(app)).data
  await service.svix.messageAttempt.resend(app, failed, endpoint!.id)
  await receiver.waitFor(2, { matches: (one) => one.headers['webhook-id'] === failed })
})

test('a broadcast reaches each application that it is for once, and its task finishes', async () => {
  const apps: string[] = []
  for (let i = 0; i < 5; i++) {
    const path = `/cast-${i}`
    apps.push(await applicationWith(path))
    await service.svix.application.patch(path.slice(1), { metadata: i % 2 === 0 ? { plan: 'gold' } : { plan: 'tin' } })
  }
  const broadcast = async (fields: object) => {
    const { status, json } = await call('POST', '/msg/broadcast', { message: { eventType: 'news', payload: { n: 1 } }, ...fields })
    assert.deepEqual([status, json['task']], [202, 'message.broadcast'], JSON.stringify(json))
    const finished = await eventually(
      () => call('GET', `/background-task/${String(json['id'])}`),
      (task) => task.json['status'] === 'finished',
    )
    return finished.json['data']
  }
  assert.deepEqual(await broadcast({ metadata: { plan: 'gold' } }), { messages: 3, conflicts: 0 })
  assert.deepEqual(await broadcast({ applications: ['cast-1', apps[0]], message: { eventType: 'news', payload: {}, eventId: 'once' } }), {
    messages: 2,
    conflicts: 0,
  })
  assert.deepEqual(await broadcast({ applications: ['cast-1', 'cast-2'], message: { eventType: 'news', payload: {}, eventId: 'once' } }), {
    messages: 1,
    conflicts: 1,
  })
  await receiver.waitFor(6, { matches: (one) => one.path.startsWith('/cast-') })
  const counts = apps.map((_, i) => idsAt(`/cast-${i}`).length)
  assert.deepEqual(counts, [2, 1, 2, 0, 1])
  assert.equal((await pool.query('SELECT FROM broadcast')).rowCount, 0)
})

test('a message that waits for its time outlives the service', async () => {
  const app = await applicationWith('/restarted')
  const message = await publish(app, { deliverAt: inMs(2000) })
  await service.service.stop()
  assert.deepEqual(idsAt('/restarted'), [])
  second = await startService(service.config, {
    roles: ['api', 'dispatcher', 'delivery'],
    lanes: LANES,
    partitions: [0, 1],
    log: (await import('pino')).default({ level: 'silent' }),
    drainMs: 1000,
  })
  await receiver.waitFor(1, at('/restarted'))
  assert.deepEqual(idsAt('/restarted'), [message])
})
