import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { acceptMessages } from '../../storage/accept.ts'
import { newMessage } from '../storage/rows.ts'
import { startApi, type Harness } from './harness.ts'
import { createRecorded, type Recorded } from './recorded.ts'

let api: Harness
let app: string
let endpoint: string
let other: string
let attempt: Recorded['attempt']
let delivery: Recorded['delivery']
let publish: Recorded['publish']
before(async () => {
  api = await startApi()
  ;({ app, endpoint, other, attempt, delivery, publish } = await createRecorded(api))
})
after(() => api.close())

test('attempts are listed by message and by endpoint, newest first, with every filter', async () => {
  const first = await publish('one.type', { channels: ['red'] })
  const second = await publish('two.type')
  const nowMs = Date.now()
  const failed = await attempt({ messageId: first, status: 2, code: 503, at: nowMs - 3000, nextAt: new Date(nowMs + 1000) })
  const silent = await attempt({ messageId: first, status: 2, code: 0, at: nowMs - 2000 })
  const good = await attempt({ messageId: first, at: nowMs - 1000 })
  const elsewhere = await attempt({ messageId: first, endpointId: other, at: nowMs - 500 })
  const later = await attempt({ messageId: second, code: 204, at: nowMs })
  const ids = async (path: string) => (await api.call('GET', `/app/${app}${path}`)).json.data.map((one) => one.id)
  assert.deepEqual(await ids(`/attempt/msg/${first}`), [elsewhere, good, silent, failed])
  assert.deepEqual(await ids(`/msg/${first}/attempt`), [elsewhere, good, silent, failed])
  assert.deepEqual(await ids(`/attempt/msg/${first}?endpoint_id=first`), [good, silent, failed])
  assert.deepEqual(await ids(`/msg/${first}/endpoint/${other}/attempt`), [elsewhere])
  const byEndpoint = `/attempt/endpoint/first`
  assert.deepEqual(await ids(byEndpoint), [later, good, silent, failed])
  assert.deepEqual(await ids(`${byEndpoint}?status=0`), [later, good])
  assert.deepEqual(await ids(`${byEndpoint}?status=2`), [silent, failed])
  assert.deepEqual(await ids(`${byEndpoint}?status=1`), [])
  assert.deepEqual(await ids(`${byEndpoint}?status_code_class=500`), [failed])
  assert.deepEqual(await ids(`${byEndpoint}?status_code_class=0`), [silent])
  assert.deepEqual(await ids(`${byEndpoint}?status_code_class=200`), [later, good])
  assert.deepEqual(await ids(`${byEndpoint}?channel=red`), [good, silent, failed])
  assert.deepEqual(await ids(`${byEndpoint}?event_types=two.type`), [later])
  assert.deepEqual(await ids(`${byEndpoint}?before=${new Date(nowMs - 1500).toISOString()}`), [silent, failed])
  assert.deepEqual(await ids(`${byEndpoint}?after=${new Date(nowMs - 1500).toISOString()}`), [later, good])
  assert.deepEqual(await ids(`${byEndpoint}?limit=2&iterator=${good}`), [silent, failed])
  assert.deepEqual(await ids(`${byEndpoint}?limit=1&iterator=-${silent}`), [good])
  assert.equal((await api.call('GET', `/app/${app}${byEndpoint}?status=9`)).status, 400)
  const shown = (await api.svix.messageAttempt.listByMsg(app, first, { status: 2, statusCodeClass: 500, withContent: true })).data
  assert.deepEqual(
    shown.map((one) => [
      one.id,
      one.msgId,
      one.endpointId,
      one.response,
      one.responseStatusCode,
      one.responseDurationMs,
      one.status,
      one.statusText,
      one.triggerType,
    ]),
    [[failed, first, endpoint, 'answer', 503, 12, 2, 'fail', 0]],
  )
  assert.equal((await api.svix.messageAttempt.listByMsg(app, first)).data[0]?.response, '')
  const withMessage = (await api.svix.messageAttempt.listByEndpoint(app, 'first', { withMsg: true })).data
  assert.deepEqual([withMessage[0]?.msg?.id, withMessage[0]?.msg?.eventType], [second, 'two.type'])
})

test('an attempt is read, and its answer is expunged', async () => {
  const message = await publish('x', { eventId: 'named' })
  const id = await attempt({ messageId: message })
  assert.equal((await api.svix.messageAttempt.get(app, 'named', id)).response, 'answer')
  await api.svix.messageAttempt.expungeContent(app, message, id)
  assert.equal((await api.svix.messageAttempt.get(app, message, id)).response, 'EXPUNGED')
  assert.equal((await api.call('GET', `/app/${app}/msg/${await publish()}/attempt/${id}`)).status, 404)
  assert.equal((await api.call('GET', `/app/${app}/msg/${message}/attempt/nonsense`)).status, 404)
})

test('attempted messages carry the state of their last attempt, and sending where another one is due', async () => {
  const target = (await api.svix.endpoint.create(app, { url: 'https://example.com/c' })).id
  const nextAt = new Date(Date.now() + 60_000)
  const delivered = await publish('a.a')
  await attempt({ messageId: delivered, endpointId: target, status: 2, code: 500, at: Date.now() - 10_000, nextAt })
  await attempt({ messageId: delivered, endpointId: target })
  const waiting = await publish('b.b')
  await attempt({ messageId: waiting, endpointId: target, status: 2, code: 500 })
  await delivery(waiting, target, 'parked', nextAt)
  const dead = await publish('c.c')
  await attempt({ messageId: dead, endpointId: target, status: 2, code: 500, nextAt })
  await delivery(dead, target, 'dead')
  await publish('never.tried')
  const path = `/app/${app}/endpoint/${target}/msg`
  const list = (await api.call('GET', path)).json.data
  assert.deepEqual(
    list.map((one) => [one.id, one['status'], one['statusText'], one['nextAttempt'], one.payload]),
    [
      [dead, 2, 'fail', null, { a: 1 }],
      [waiting, 3, 'sending', nextAt.toISOString(), { a: 1 }],
      [delivered, 0, 'success', null, { a: 1 }],
    ],
  )
  const idsOf = async (query: string) => (await api.call('GET', `${path}?${query}`)).json.data.map((one) => one.id)
  assert.deepEqual(await idsOf('status=0'), [delivered])
  assert.deepEqual(await idsOf('status=1'), [])
  assert.deepEqual(await idsOf('status=2'), [dead, waiting])
  assert.deepEqual(await idsOf('status=3'), [waiting])
  assert.deepEqual(await idsOf('event_types=a.a'), [delivered])
  assert.deepEqual(await idsOf(`limit=1&iterator=${dead}`), [waiting])
  assert.equal((await api.svix.messageAttempt.listAttemptedMessages(app, target)).data.length, 3)
  const destinations = (await api.call('GET', `/app/${app}/msg/${waiting}/endpoint`)).json.data
  assert.deepEqual(
    destinations.map((one) => [one.id, one['status'], one['nextAttempt']]),
    [[target, 2, nextAt.toISOString()]],
  )
  await api.svix.endpoint.delete(app, target)
  assert.equal((await api.svix.messageAttempt.listAttemptedDestinations(app, waiting)).data[0]?.id, target)
})

test('a message whose endpoints have queues names the mailbox that delivers it, whatever group its delivery was given', async () => {
  const shop = (await api.svix.application.create({ name: 'Queues' })).id
  const { json: queued } = await api.call('POST', `/app/${shop}/endpoint`, { url: 'https://example.com/q', ordering: 'fifo' })
  const workflowOf = async (id: string) => (await api.call('GET', `/app/${shop}/msg/${id}`)).json['workflowId']
  const message = newMessage({ appId: shop })
  const { id } = message
  await acceptMessages(api.pool, [message], false, 0, {
    places: [{ messageId: id, endpointId: queued.id, eager: false }],
    routed: new Set(),
  })
  assert.equal(await workflowOf(id), `mailbox/${queued.id}`)
  await api.pool.query('DELETE FROM outbox WHERE message_id = $1', [id])
  assert.equal(await workflowOf(id), `mailbox/${queued.id}`)
  await attempt({ messageId: id, endpointId: queued.id })
  await api.pool.query('DELETE FROM delivery WHERE message_id = $1', [id])
  assert.equal(await workflowOf(id), `mailbox/${queued.id}`)
  const { id: plain } = await api.svix.endpoint.create(shop, { url: 'https://example.com/p' })
  await attempt({ messageId: id, endpointId: plain })
  assert.equal(await workflowOf(id), `fan-out/${id}`)
})

test('a message tells its workflow from its attempt, its outbox row or its delivery', async () => {
  const workflowOf = async (id: string) => (await api.call('GET', `/app/${app}/msg/${id}`)).json['workflowId']
  const id = await publish()
  assert.equal(await workflowOf(id), undefined)
  await api.pool.query(`UPDATE outbox SET group_id = 'msg_group' WHERE message_id = $1`, [id])
  assert.equal(await workflowOf(id), 'fan-out/msg_group')
  await attempt({ messageId: id })
  assert.equal(await workflowOf(id), `fan-out/${id}`)
  const parked = await publish()
  await delivery(parked, endpoint, 'parked', new Date())
  assert.equal(await workflowOf(parked), `fan-out/${parked}`)
})
