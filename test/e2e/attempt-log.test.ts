import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { after, before, test } from 'node:test'
import pino from 'pino'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

type Line = Readonly<Record<string, unknown>>

let receiver: Receiver
let text = ''
let service: TestService | undefined

before(async () => {
  receiver = await startReceiver(({ path }) => ({ status: path.startsWith('/fails') ? 500 : 200, body: 'the answer of the endpoint' }))
})

after(() => receiver.close())

/** Publishes to an endpoint that works and one that fails once and for all, and gives the lines of their attempts. */
async function attemptsOf(
  attemptLog: string,
  count: number,
): Promise<{ lines: Line[]; text: string; ids: { app: string; endpoints: string[]; message: string } }> {
  text = ''
  const stream = new PassThrough().setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  service = await startTestService({
    log: pino({ level: 'info' }, stream),
    env: { TIDINGS_ATTEMPT_LOG: attemptLog, TIDINGS_RETRY_SCHEDULE: '0.1' },
  })
  try {
    const { id: app } = await service.svix.application.create({ name: 'logged' })
    const create = (url: string) => service!.svix.endpoint.create(app, { url, headers: { 'x-key': 'a header of the endpoint' } })
    const secret = new URL(receiver.url)
    const endpoints = await Promise.all([
      create(`${receiver.url}/works?key=in-the-query`),
      create(`${secret.origin}/fails?key=in-the-query`),
    ])
    const { id: message } = await service.svix.message.create(app, { eventType: 'invoice.paid', payload: { said: 'in the payload' } })
    const delivered = () => receiver.received.filter(({ headers }) => headers['webhook-id'] === message).length
    await eventually(
      () => Promise.resolve(delivered()),
      (requests) => requests === 3,
    )
    const lines = () =>
      Promise.resolve(
        text
          .split('\n')
          .filter((line) => line !== '')
          .map((line) => JSON.parse(line) as Line)
          .filter(({ msg }) => msg === 'attempt'),
      )
    // What is recorded last is the end of the failing delivery.
    await eventually(
      () => Promise.resolve(text),
      (all) => all.includes('delivery.dead-lettered'),
    )
    const found = await eventually(lines, (all) => all.length >= count)
    return { lines: found, text, ids: { app, endpoints: endpoints.map(({ id }) => id), message } }
  } finally {
    await service.stop()
  }
}

test('with `all` each attempt has one line with all that is known of it, and nothing that is not ours to tell', async () => {
  const { lines, text: whole, ids } = await attemptsOf('all', 3)
  assert.equal(lines.length, 3)
  const [works, fails] = ids.endpoints
  const well = lines.find(({ endpointId }) => endpointId === works)!
  const wellSays = {
    messageId: ids.message,
    appId: ids.app,
    eventType: 'invoice.paid',
    lane: 'fast',
    trigger: 'scheduled',
    number: 1,
    outcome: 'delivered',
  }
  for (const [name, value] of Object.entries({
    ...wellSays,
    status: 200,
    delivery: 'delivered',
    bytes: 25,
    host: new URL(receiver.url).host,
  })) {
    assert.equal(well[name], value, name)
  }
  assert.match(String(well['attemptId']), /^atmpt_/)
  assert.ok(Number(well['durationMs']) >= 0 && Number(well['sincePublishMs']) >= 0)
  const bad = lines.filter(({ endpointId }) => endpointId === fails).sort((a, b) => Number(a['number']) - Number(b['number']))
  assert.deepEqual(
    bad.map(({ number, status, outcome, delivery }) => [number, status, outcome, delivery]),
    [
      [1, 500, 'rejected', 'retrying'],
      [2, 500, 'rejected', 'dead'],
    ],
  )
  assert.match(String(bad[0]!['nextAt']), /^\d{4}-/)
  for (const hidden of ['in the payload', 'in-the-query', 'a header of the endpoint', 'the answer of the endpoint'])
    assert.ok(!whole.includes(hidden), hidden)
})

test('with `failures` those that failed have a line', async () => {
  const { lines } = await attemptsOf('failures', 2)
  assert.deepEqual(
    lines.map(({ outcome }) => outcome),
    ['rejected', 'rejected'],
  )
})

test('with `none` none has', async () => {
  assert.deepEqual((await attemptsOf('none', 0)).lines, [])
})
