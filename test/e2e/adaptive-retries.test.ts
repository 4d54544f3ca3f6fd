import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createPool, type Pool } from '../../storage/pool.ts'
import { mostInASecond } from '../support/arrivals.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

let service: TestService
let receiver: Receiver
let pool: Pool

before(async () => {
  receiver = await startReceiver((one, earlier) => ({
    status: one.path === '/once' ? (earlier === 0 ? 500 : 200) : one.body.includes('bad') ? 500 : 200,
  }))
  service = await startTestService({
    env: { TIDINGS_BREAKER_FAILURE_PERCENT: '100', TIDINGS_RETRY_RATE: '5', TIDINGS_RETRY_BURST: '5' },
  })
  pool = createPool(service.database.url, 2)
})

after(async () => {
  await pool.end()
  await service.stop()
  await receiver.close()
})

async function create(path: string, retrySchedule: number[]) {
  const { id: appId } = await service.svix.application.create({ name: path })
  const response = await fetch(`${service.url}/api/v1/app/${appId}/endpoint`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ url: `${receiver.url}${path}`, retrySchedule }),
  })
  const { id: endpointId } = (await response.json()) as { id: string }
  const publish = (count: number, word: string) =>
    Promise.all(Array.from({ length: count }, () => service.svix.message.create(appId, { eventType: 'invoice.paid', payload: { word } })))
  return { appId, endpointId, publish }
}

/** Seconds from a failed attempt to its retry. */
async function delayOf(messageId: string): Promise<number> {
  const rows = await eventually(
    async () =>
      (
        await pool.query<{ delay: number }>(
          'SELECT extract(epoch FROM next_attempt_at - created_at)::float8 AS delay FROM attempt WHERE message_id = $1 AND next_attempt_at IS NOT NULL',
          [messageId],
        )
      ).rows,
    (found) => found.length === 1,
  )
  return rows[0]!.delay
}

const attemptsOf = (endpointId: string, count: number) =>
  eventually(
    async () =>
      (
        await pool.query<{ counted: number | null }>(
          'SELECT sum(successes + failures) AS counted FROM endpoint_health WHERE endpoint_id = $1',
          [endpointId],
        )
      ).rows[0]!.counted ?? 0,
    (counted) => counted >= count,
  )

test('a healthy endpoint is retried in half the time, a failing one in twice the time, an unknown one as its schedule says', async () => {
  const unknown = await create('/unknown', [1000])
  const [first] = await unknown.publish(1, 'bad')
  const plain = await delayOf(first!.id)
  assert.ok(plain >= 800 && plain <= 1210, `${plain} s`)

  const healthy = await create('/healthy', [1000])
  await healthy.publish(40, 'good')
  await attemptsOf(healthy.endpointId, 40)
  const [one] = await healthy.publish(1, 'bad')
  const halved = await delayOf(one!.id)
  assert.ok(halved >= 400 && halved <= 610, `${halved} s`)

  const failing = await create('/failing', [1000])
  await failing.publish(10, 'good')
  await failing.publish(30, 'bad')
  await attemptsOf(failing.endpointId, 40)
  const [another] = await failing.publish(1, 'bad')
  const doubled = await delayOf(another!.id)
  assert.ok(doubled >= 1600 && doubled <= 2410, `${doubled} s`)
})

test('retries that are due together leave within the budget of their endpoint, first requests are not counted in it', async () => {
  const { publish } = await create('/once', [1, 1, 1])
  await publish(15, 'retried')
  const firsts = await receiver.waitFor(15, { matches: (one) => one.path === '/once' })
  assert.ok(mostInASecond(firsts.map((one) => one.atMs)) > 10)
  const all = await receiver.waitFor(30, { matches: (one) => one.path === '/once' })
  const seen = new Set<string>()
  const retries = all.filter((one) => {
    const id = one.headers['webhook-id']!
    return seen.has(id) || !seen.add(id)
  })
  assert.equal(retries.length, 15)
  const most = mostInASecond(retries.map((one) => one.atMs))
  assert.ok(most <= 11, `${most} retries in a second`)
})
