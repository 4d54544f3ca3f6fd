import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Webhook } from 'standardwebhooks'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

let service: TestService
let receiver: Receiver

before(async () => {
  receiver = await startReceiver((one, earlier) => (one.path === '/flaky' && earlier < 2 ? { status: 503 } : { status: 200 }))
  service = await startTestService({ env: { TIDINGS_RETRY_TIME_SCALE: '0.1' } })
})

after(async () => {
  await service.stop()
  await receiver.close()
})

test('an event is delivered, signed, to its endpoint, and its attempt can be read', async () => {
  const { svix } = service
  const application = await svix.application.create({ name: 'first' })
  const endpoint = await svix.endpoint.create(application.id, { url: `${receiver.url}/healthy` })
  const { key } = await svix.endpoint.getSecret(application.id, endpoint.id)
  const message = await svix.message.create(application.id, { eventType: 'invoice.paid', payload: { amount: 1 } })
  const [received] = await receiver.waitFor(1, { matches: (one) => one.path === '/healthy' })
  assert.equal(received!.headers['webhook-id'], message.id)
  assert.deepEqual(new Webhook(key).verify(received!.body, { ...received!.headers }), { amount: 1 })
  assert.equal(received!.body, '{"amount":1}')
})

test('a payload arrives byte for byte as it was published, in a batch and a broadcast too, and its signature is of these bytes', async () => {
  const { svix } = service
  const application = await svix.application.create({ name: 'verbatim' })
  const { id } = await svix.endpoint.create(application.id, { url: `${receiver.url}/verbatim` })
  const { key } = await svix.endpoint.getSecret(application.id, id)
  const payload = '{ "2": 1.0,\n\t"1": 12345678901234567890, "text": "\\u00e9 ☃" }'
  const one = `{"eventType":"invoice.paid","payload": ${payload} }`
  for (const [path, body] of [
    [`/app/${application.id}/msg`, one],
    [`/app/${application.id}/msg/batch`, `{"messages":[ ${one} ]}`],
    ['/msg/broadcast', `{"applications":["${application.id}"],"message":${one}}`],
  ] as const) {
    const headers = { authorization: `Bearer ${service.token}` }
    const answer = await fetch(`${service.url}/api/v1${path}`, { method: 'POST', headers, body })
    assert.equal(answer.status, 202, await answer.text())
  }
  for (const received of await receiver.waitFor(3, { matches: ({ path }) => path === '/verbatim' })) {
    assert.equal(received.body, payload)
    new Webhook(key).verify(received.body, { ...received.headers })
  }
})

test('a failing delivery is retried at its delays until the endpoint takes it', async () => {
  const { svix } = service
  const application = await svix.application.create({ name: 'flaky' })
  await svix.endpoint.create(application.id, { url: `${receiver.url}/flaky` })
  const message = await svix.message.create(application.id, { eventType: 'invoice.paid', payload: { amount: 2 } })
  const requests = await receiver.waitFor(3, { matches: (one) => one.headers['webhook-id'] === message.id })
  const [first, second, third] = requests
  assert.ok(second!.atMs - first!.atMs >= 80, `the first retry came after ${second!.atMs - first!.atMs} ms`)
  assert.ok(third!.atMs - second!.atMs >= 160, `the second retry came after ${third!.atMs - second!.atMs} ms`)
})

test('a large payload, made bytes once for its endpoints, arrives at each as it was published, with a signature of its own', async () => {
  const { svix } = service
  const application = await svix.application.create({ name: 'large' })
  const paths = ['/large-1', '/large-2', '/large-3']
  const payload = { text: 'é☃𝄞"\\ '.repeat(10_000) }
  const keys = new Map<string, string>()
  for (const path of paths) {
    const endpoint = await svix.endpoint.create(application.id, { url: `${receiver.url}${path}` })
    keys.set(path, (await svix.endpoint.getSecret(application.id, endpoint.id)).key)
  }
  await svix.message.create(application.id, { eventType: 'invoice.paid', payload })
  for (const one of await receiver.waitFor(paths.length, { matches: ({ path }) => keys.has(path) })) {
    assert.deepEqual(new Webhook(keys.get(one.path)!).verify(one.body, { ...one.headers }), payload)
    assert.equal(one.body, JSON.stringify(payload))
  }
})
