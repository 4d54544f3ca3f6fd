import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { ReplayRequest } from '../../domain/message.ts'
import { LIMITS } from '../../domain/limits.ts'
import { redriveSome, type Redrive } from '../../storage/history/dead-letters.ts'
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
  const { id, task, input } = api.tasks.at(-1)!
  assert.deepEqual([id, task], [out.id, 'endpoint.recover'])
  const asked = input as ReplayRequest
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

test('what is more than one request puts back is put back in the background', async () => {
  const target = (await api.svix.endpoint.create(app, { url: 'https://example.com/f' })).id
  const letters = LIMITS.redriveMaxPerRequest + 30
  await api.pool.query(
    `WITH letter AS (
       INSERT INTO message (id, app_id, event_type, payload, expires_at)
       SELECT 'msg_many' || lpad(n::text, 23, '0'), $1, 'many', '{}', now() + interval '1 day' FROM generate_series(1, $3::int) AS n RETURNING id
     )
     INSERT INTO delivery (message_id, endpoint_id, app_id, state, attempts, group_id, updated_at)
     SELECT id, $2, $1, 'dead', 13, id, now() - interval '1 s' FROM letter`,
    [app, target, letters],
  )
  const { json } = await api.call('POST', `/app/${app}/dead-letter/redrive`, { endpointId: target })
  assert.deepEqual([json['redriven'], json.done], [LIMITS.redriveMaxPerRequest, false])
  const { id, input } = api.tasks.at(-1)!
  assert.equal(json['taskId'], id)
  // What dies while the task runs stays.
  await delivery(await publish('dies.later'), target, 'dead')
  assert.deepEqual(await redriveSome(api.pool, id, input as Redrive), { done: true })
  const task = await api.svix.backgroundTask.get(id)
  assert.deepEqual([String(task.status), task.data], ['finished', { redriven: letters }])
  const { rowCount } = await api.pool.query('SELECT FROM outbox WHERE endpoint_id = $1', [target])
  assert.equal(rowCount, letters)
})

test('two redrives at a time put each dead letter back once', async () => {
  const target = (await api.svix.endpoint.create(app, { url: 'https://example.com/e' })).id
  const ids = await Promise.all(Array.from({ length: 40 }, () => api.svix.message.create(app, { eventType: 'twice', payload: {} })))
  for (const { id } of ids) await delivery(id, target, 'dead')
  const redrive = () => api.call('POST', `/app/${app}/dead-letter/redrive`, { endpointId: target })
  const answers = await Promise.all(Array.from({ length: 4 }, redrive))
  assert.equal(
    answers.reduce((sum, { json }) => sum + (json['redriven'] as number), 0),
    40,
  )
  const { rowCount } = await api.pool.query('SELECT FROM outbox WHERE endpoint_id = $1', [target])
  assert.equal(rowCount, 40)
})
