import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import { startApi, type Harness } from './harness.ts'

let api: Harness
let app: string
let endpoint: string
let other: string
before(async () => {
  api = await startApi()
  app = (await api.svix.application.create({ name: 'History' })).id
  endpoint = (await api.svix.endpoint.create(app, { url: 'https://example.com/a', uid: 'first' })).id
  other = (await api.svix.endpoint.create(app, { url: 'https://example.com/b' })).id
})
after(() => api.close())

interface AttemptInput {
  readonly messageId: string
  readonly endpointId?: string
  readonly status?: number
  readonly code?: number
  readonly at?: number
  readonly nextAt?: Date | null
}

/** An attempt as a worker records it. */
async function attempt(input: AttemptInput): Promise<string> {
  const atMs = input.at ?? Date.now()
  const id = newId('atmpt', atMs)
  await api.pool.query(
    `INSERT INTO attempt (message_id, id, endpoint_id, app_id, event_type, url, status, response_code, response_body, duration_ms, trigger, group_id,
       run_id, next_attempt_at, created_at)
     SELECT m.id, $2, $3, m.app_id, m.event_type, 'https://example.com/a', $4, $5, 'answer', 12, 0, $1, $6, $7, to_timestamp($8::float8 / 1000)
     FROM message m WHERE m.id = $1`,
    [input.messageId, id, input.endpointId ?? endpoint, input.status ?? 0, input.code ?? 200, randomUUID(), input.nextAt ?? null, atMs],
  )
  return id
}

async function delivery(messageId: string, endpointId: string, state: string, nextAt: Date | null = null): Promise<void> {
  await api.pool.query(
    `INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, next_at, group_id) VALUES ($1, $2, $3, $4, 13, $5, $1)`,
    [messageId, endpointId, app, state, nextAt],
  )
}

let publishedAtMs = 0

/** Ids sort by units of 4 ms: messages of a test are published further apart. */
async function publish(eventType = 'x', extra: { channels?: string[]; eventId?: string } = {}): Promise<string> {
  while (Date.now() < publishedAtMs + 5) await new Promise(setImmediate)
  const { id } = await api.svix.message.create(app, { eventType, payload: { a: 1 }, ...extra })
  publishedAtMs = Date.now()
  return id
}

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

interface OutboxRow {
  readonly endpoint_id: string
  readonly trigger: number
  readonly retried: boolean
}

const sentAgain = async (messageId: string) =>
  (
    await api.pool.query<OutboxRow>('SELECT endpoint_id, trigger, retried FROM outbox WHERE message_id = $1 AND endpoint_id IS NOT NULL', [
      messageId,
    ])
  ).rows

test('a resend is one manual attempt; disabled endpoints are skipped and lost payloads refused', async () => {
  const id = await publish()
  const { status, json } = await api.call('POST', `/app/${app}/msg/${id}/endpoint/first/resend`)
  assert.deepEqual([status, json], [202, {}])
  await api.svix.messageAttempt.resend(app, id, other)
  assert.deepEqual(
    new Set((await sentAgain(id)).map((row) => JSON.stringify(row))),
    new Set([endpoint, other].map((one) => JSON.stringify({ endpoint_id: one, trigger: 1, retried: false }))),
  )
  const off = (await api.svix.endpoint.create(app, { url: 'https://example.com/off', disabled: true })).id
  const before = (await sentAgain(id)).length
  assert.equal((await api.call('POST', `/app/${app}/msg/${id}/endpoint/${off}/resend`)).status, 202)
  assert.equal((await sentAgain(id)).length, before)
  await api.svix.message.expungeContent(app, id)
  assert.equal((await api.call('POST', `/app/${app}/msg/${id}/endpoint/first/resend`)).json.code, 'missing_payload')
})

test('a recovery starts a replay of what failed, at most 14 days back', async () => {
  const since = new Date(Date.now() - 13 * 86_400_000)
  const out = await api.svix.endpoint.recover(app, 'first', { since })
  assert.match(out.id, /^qtask_/)
  assert.deepEqual([out.status, out.task], ['running', 'endpoint.recover'])
  const asked = api.replays.at(-1)!
  assert.deepEqual(
    [asked.applicationId, asked.endpointId, asked.since, asked.status, asked.retried],
    [app, endpoint, since.toISOString(), 'failed', false],
  )
  const recover = (body: unknown) => api.call('POST', `/app/${app}/endpoint/first/recover`, body)
  assert.equal((await recover({ since: new Date(Date.now() - 15 * 86_400_000) })).status, 422)
  assert.equal((await recover({ since: 'lately' })).json.detail[0]?.type, 'value_error.jsondecode')
  assert.equal((await recover({})).status, 422)
  assert.equal((await recover({ since, until: new Date(since.getTime() - 1) })).status, 422)
})

test('the statistics of an endpoint count its attempts within 28 days', async () => {
  const target = (await api.svix.endpoint.create(app, { url: 'https://example.com/d' })).id
  const id = await publish()
  await attempt({ messageId: id, endpointId: target, status: 2, code: 500 })
  await attempt({ messageId: id, endpointId: target })
  assert.deepEqual(await api.svix.endpoint.getStats(app, target), { success: 1, pending: 0, fail: 1, sending: 0, canceled: 0 })
  const since = new Date(Date.now() - 29 * 86_400_000).toISOString()
  const tooFar = await api.call('GET', `/app/${app}/endpoint/${target}/stats?since=${since}`)
  assert.deepEqual([tooFar.status, tooFar.json.code], [400, 'invalid_range'])
})

test('an example of an event type is sent to one endpoint alone', async () => {
  const schemas = {
    '1': {
      properties: {
        id: { type: 'string', example: 'inv_1' },
        paid: { type: 'boolean' },
        lines: { type: 'array', items: { type: 'integer' } },
      },
    },
  }
  await api.svix.eventType.create({ name: 'with.schema', description: 'd', schemas })
  await api.svix.eventType.create({ name: 'without.schema', description: 'd' })
  const sent = await api.svix.endpoint.sendExample(app, endpoint, { eventType: 'with.schema' })
  assert.deepEqual(sent.payload, { id: 'inv_1', paid: true, lines: [0] })
  assert.deepEqual(await sentAgain(sent.id), [{ endpoint_id: endpoint, trigger: 0, retried: true }])
  const { rowCount } = await api.pool.query('SELECT FROM outbox WHERE message_id = $1', [sent.id])
  assert.equal(rowCount, 1)
  const plain = await api.svix.endpoint.sendExample(app, endpoint, { eventType: 'without.schema' })
  assert.equal((plain.payload as { type: string }).type, 'without.schema')
  assert.equal((await api.call('POST', `/app/${app}/endpoint/${endpoint}/send-example`, { eventType: 'no.such' })).status, 404)
})

test('dead letters are listed, paged and redriven with the whole schedule; those that cannot be sent stay', async () => {
  const own = await publish('dead.one')
  const gone = await publish('dead.gone')
  const third = await publish('dead.three')
  for (const id of [own, gone, third]) await delivery(id, other, 'dead')
  await delivery(own, endpoint, 'dead')
  await attempt({ messageId: own, endpointId: other, status: 2, code: 502 })
  await api.svix.message.expungeContent(app, gone)
  const path = `/app/${app}/dead-letter`
  const list = (await api.call('GET', `${path}?endpoint_id=${other}`)).json.data
  assert.deepEqual(
    list.map((one) => [one['msgId'], one['eventType'], one['attempts'], one['responseStatusCode'], one['redrivable']]),
    [
      [third, 'dead.three', 13, null, true],
      [gone, 'dead.gone', 13, null, false],
      [own, 'dead.one', 13, 502, true],
    ],
  )
  const first = (await api.call('GET', `${path}?endpoint_id=${other}&limit=2`)).json
  const second = (await api.call('GET', `${path}?endpoint_id=${other}&limit=2&iterator=${first.iterator}`)).json
  assert.deepEqual([first.done, second.done, second.data.map((one) => one['msgId'])], [false, true, [own]])
  const back = (await api.call('GET', `${path}?endpoint_id=${other}&limit=2&iterator=${second.prevIterator}`)).json
  assert.deepEqual(
    back.data.map((one) => one['msgId']),
    [third, gone],
  )
  const some = await api.call('POST', `${path}/redrive`, { messageIds: [own], endpointId: endpoint })
  assert.deepEqual([some.status, some.json], [202, { redriven: 1, done: true }])
  assert.deepEqual(await sentAgain(own), [{ endpoint_id: endpoint, trigger: 1, retried: true }])
  const rest = await api.call('POST', `${path}/redrive`, { endpointId: other })
  assert.deepEqual(rest.json, { redriven: 2, done: true })
  assert.deepEqual(
    (await api.call('GET', `${path}?endpoint_id=${other}`)).json.data.map((one) => one['msgId']),
    [gone],
  )
  assert.equal((await api.call('GET', `${path}?iterator=nonsense`)).status, 422)
})
