import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createPool } from '../../storage/pool.ts'
import { eventually } from '../support/eventually.ts'
import { startOtlpReceiver, type OtlpReceiver, type ReceivedSpan } from '../support/otlp.ts'
import { spawnScript, type RunningProcess } from '../support/processes.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, TEST_SECRET, type TestService } from '../support/service.ts'

const PUBLISHER = { traceId: '4bf92f3577b34da6a3ce929d0e0e4736', spanId: '00f067aa0ba902b7' }
const WITHIN_MS = 40_000

let collector: OtlpReceiver
let receiver: Receiver
let service: TestService
let worker: RunningProcess

before(async () => {
  collector = await startOtlpReceiver()
  receiver = await startReceiver((one, earlier) => ({ status: one.path === '/once-down' && earlier === 0 ? 503 : 200 }))
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: collector.url, TIDINGS_RETRY_SCHEDULE: '0.3' }
  // Published in this process; fanned out and sent in another.
  service = await startTestService({ roles: ['api'], env })
  worker = spawnScript('cli/worker.ts', [], {
    env: {
      ...env,
      DATABASE_URL: service.database.url,
      TEMPORAL_ADDRESS: service.temporal.address,
      TEMPORAL_NAMESPACE: service.temporal.namespace,
      TIDINGS_JWT_SECRET: TEST_SECRET,
      TIDINGS_ENCRYPTION_KEY: TEST_SECRET,
      TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8',
      TIDINGS_PARTITIONS: '2',
    },
  })
  await worker.line(/^tidings worker ready/)
})

after(async () => {
  worker?.signal('SIGTERM')
  await worker?.ended
  await service?.stop()
  await receiver?.close()
  await collector?.close()
})

function post(path: string, body: object, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${service.url}/api/v1${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.token}`, 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
}

async function application(path: string, fields: object = {}): Promise<string> {
  const { id } = await service.svix.application.create({ name: path })
  // The official client knows no `ordering`.
  const { status } = await post(`/app/${id}/endpoint`, { url: `${receiver.url}${path}`, ...fields })
  assert.equal(status, 201)
  return id
}

/** @returns the message's id */
async function publish(appId: string, headers: Record<string, string> = {}): Promise<string> {
  const response = await post(`/app/${appId}/msg`, { eventType: 'invoice.paid', payload: { secret: 'of the publisher' } }, headers)
  assert.equal(response.status, 202)
  return ((await response.json()) as { id: string }).id
}

/** Spans of one message, once there are so many. */
async function spansOf(messageId: string, count: number): Promise<readonly ReceivedSpan[]> {
  const found = () => Promise.resolve(collector.spans.filter(({ attributes }) => attributes['messaging.message.id'] === messageId))
  return eventually(found, (spans) => spans.length >= count, WITHIN_MS)
}

const named = (spans: readonly ReceivedSpan[], name: string) => spans.filter((span) => span.name === name)

test("publish, fan-out and attempts continue the publisher's trace, across processes, and the receiver continues the attempt", async () => {
  const appId = await application('/once-down')
  const messageId = await publish(appId, { traceparent: `00-${PUBLISHER.traceId}-${PUBLISHER.spanId}-01` })
  const requests = await receiver.waitFor(2, { matches: ({ headers }) => headers['webhook-id'] === messageId })
  const spans = await spansOf(messageId, 4)
  assert.ok(spans.every(({ traceId }) => traceId === PUBLISHER.traceId))
  const [[published], [fanOut], attempts] = [named(spans, 'publish'), named(spans, 'fan-out'), named(spans, 'attempt')]
  assert.equal(published?.parentSpanId, PUBLISHER.spanId)
  assert.equal(fanOut?.parentSpanId, published?.spanId)
  assert.equal(attempts.length, 2)
  for (const attempt of attempts) assert.equal(attempt.parentSpanId, fanOut?.spanId)
  assert.equal(new Set([published, fanOut, ...attempts].map((span) => span.spanId)).size, 4)
  assert.equal(published?.pid, process.pid)
  assert.deepEqual(new Set([fanOut, ...attempts].map((span) => span.pid)), new Set([worker.pid]))
  const told = requests.map(({ headers }) => headers['traceparent'])
  assert.deepEqual(new Set(told), new Set(attempts.map(({ spanId }) => `00-${PUBLISHER.traceId}-${spanId}-01`)))
  const inOrder = [...attempts].sort(
    (a, b) => Number(a.attributes['http.request.resend_count']) - Number(b.attributes['http.request.resend_count']),
  )
  assert.deepEqual(
    inOrder.map(({ attributes }) => attributes['http.response.status_code']),
    [503, 200],
  )
  assert.deepEqual(
    inOrder.map(({ status }) => status.code),
    [2, 0],
  )
  assert.ok(!JSON.stringify(spans).includes('of the publisher'), 'no payload is in a span')
})

test('without a trace of its publisher a message begins one; a delivery through a queue is below its publish', async () => {
  const appId = await application('/in-order', { ordering: 'fifo' })
  const pool = createPool(service.database.url, 1)
  // As long ago as every process needs to know of the endpoint: it is routed when it is published.
  await pool.query(`UPDATE endpoint SET updated_at = updated_at - interval '1 min' WHERE app_id = $1`, [appId])
  await pool.end()
  const messageId = await publish(appId)
  const spans = await spansOf(messageId, 2)
  const [[published], [attempt]] = [named(spans, 'publish'), named(spans, 'attempt')]
  assert.equal(published?.parentSpanId ?? '', '')
  assert.equal(attempt?.traceId, published?.traceId)
  assert.deepEqual(named(spans, 'fan-out'), [])
  assert.equal(attempt?.parentSpanId, published?.spanId)
})

test('what its publisher does not sample has no spans, and says so to the receiver', async () => {
  const traceId = '0af7651916cd43dd8448eb211c80319c'
  const appId = await application('/unsampled')
  const messageId = await publish(appId, { traceparent: `00-${traceId}-b7ad6b7169203331-00` })
  const [request] = await receiver.waitFor(1, { matches: ({ headers }) => headers['webhook-id'] === messageId })
  assert.match(request!.headers['traceparent'] ?? '', new RegExp(`^00-${traceId}-[0-9a-f]{16}-00$`))
  const later = await publish(await application('/later'))
  await spansOf(later, 3)
  assert.equal(collector.spans.filter((span) => span.traceId === traceId).length, 0)
})

test('without a collector nothing is stored, and the receiver gets no header, whatever the publisher sends', async () => {
  const plain = await startTestService()
  const pool = createPool(plain.database.url, 1)
  try {
    const { id } = await plain.svix.application.create({ name: 'untraced' })
    await plain.svix.endpoint.create(id, { url: `${receiver.url}/untraced` })
    const response = await fetch(`${plain.url}/api/v1/app/${id}/msg`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${plain.token}`,
        'content-type': 'application/json',
        traceparent: `00-${PUBLISHER.traceId}-${PUBLISHER.spanId}-01`,
      },
      body: JSON.stringify({ eventType: 'invoice.paid', payload: {} }),
    })
    assert.equal(response.status, 202)
    const [request] = await receiver.waitFor(1, { matches: ({ path }) => path === '/untraced' })
    assert.equal(request!.headers['traceparent'], undefined)
    const { rows } = await pool.query<{ traceparent: string | null }>('SELECT traceparent FROM message')
    assert.deepEqual(rows, [{ traceparent: null }])
  } finally {
    await pool.end()
    await plain.stop()
  }
})
