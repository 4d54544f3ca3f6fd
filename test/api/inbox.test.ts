import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Webhook } from 'svix'
import { startApi, type Harness } from './harness.ts'

let api: Harness
let app: string
before(async () => {
  api = await startApi({ allowSubnets: ['127.0.0.1'] })
  app = (await api.svix.application.create({ name: 'Inbox' })).id
})
after(() => api.close())

interface Shown {
  readonly received: { verified: string; body: string; attempt: number; answered: number; method: string }[]
}

const read = async (name: string): Promise<Shown> => (await (await fetch(`${api.url}/inbox/${name}`)).json()) as Shown

function send(path: string, id: string, secret: string, body = '{"a":1}'): Promise<Response> {
  const now = new Date()
  const signature = new Webhook(secret).sign(id, now, body)
  const headers = { 'webhook-id': id, 'webhook-timestamp': String(Math.floor(now.getTime() / 1000)), 'webhook-signature': signature }
  return fetch(`${api.url}/inbox/${path}`, { method: 'POST', headers, body })
}

test('a received webhook is kept with whether its signature verifies', async () => {
  const endpoint = await api.svix.endpoint.create(app, { url: `${api.url}/inbox/signed?status=0` })
  const { key } = await api.svix.endpoint.getSecret(app, endpoint.id)
  assert.equal((await send('signed', 'msg_1', key)).status, 200)
  await send('signed', 'msg_2', `whsec_${Buffer.alloc(24, 1).toString('base64')}`)
  await api.svix.endpoint.rotateSecret(app, endpoint.id, {})
  await send('signed', 'msg_1', key)
  await send('nobody', 'msg_1', key)
  const { received } = await read('signed')
  assert.deepEqual(
    received.map((one) => [one.verified, one.attempt, one.body]),
    [
      ['yes', 2, '{"a":1}'],
      ['no', 1, '{"a":1}'],
      ['yes', 1, '{"a":1}'],
    ],
  )
  assert.equal((await read('nobody')).received[0]?.verified, 'unknown')
})

test('an inbox misbehaves on request', async () => {
  const secret = `whsec_${Buffer.alloc(24, 2).toString('base64')}`
  const statuses = async (path: string, id: string) => [
    (await send(path, id, secret)).status,
    (await send(path, id, secret)).status,
    (await send(path, id, secret)).status,
  ]
  assert.deepEqual(await statuses('always?status=500', 'm'), [500, 500, 500])
  assert.deepEqual(await statuses('twice?failFirst=2', 'm1'), [503, 503, 200])
  assert.deepEqual(await statuses('twice?failFirst=2', 'm2'), [503, 503, 200])
  const startedAt = performance.now()
  await send('slow?delayMs=150', 'm', secret)
  assert.ok(performance.now() - startedAt >= 149)
})

test('the page of an inbox escapes what was sent', async () => {
  const secret = `whsec_${Buffer.alloc(24, 3).toString('base64')}`
  await send('page', '<script>id</script>', secret, '<img src=x onerror=alert(1)>')
  const response = await fetch(`${api.url}/inbox/page`, { headers: { accept: 'text/html' } })
  const html = await response.text()
  assert.match(response.headers.get('content-type') ?? '', /text\/html/)
  assert.ok(html.includes('&lt;img src=x'))
  assert.ok(!html.includes('<img') && !html.includes('<script>'))
})
