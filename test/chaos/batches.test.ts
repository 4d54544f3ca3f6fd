import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { startReceiver, type Received, type Receiver } from '../support/receiver.ts'
import { setStage, type Stage } from './stage.ts'

let stage: Stage
let receiver: Receiver

before(async () => {
  // The first request to `/held` is never answered.
  receiver = await startReceiver((one) =>
    one.path === '/held' && receiver.received.filter(at('/held')).length === 1 ? 'hang' : { status: 200 },
  )
  stage = await setStage()
})
afterEach(() => stage.endAll())
after(async () => {
  await stage.close()
  await receiver.close()
})

const at = (path: string) => (one: Received) => one.path === path
const eventsOf = (one: Received) => (JSON.parse(one.body) as { id: string }[]).map(({ id }) => id)

async function post(path: string, body: object): Promise<{ id: string }> {
  const headers = { authorization: `Bearer ${stage.token}` }
  const response = await fetch(`${stage.apiUrl}/api/v1${path}`, { method: 'POST', headers, body: JSON.stringify(body) })
  assert.ok(response.ok, `${path} answered ${response.status}`)
  return (await response.json()) as { id: string }
}

/** An endpoint with batches whose settings every process knows. */
async function batchedEndpoint(path: string, batching: object): Promise<string> {
  const { id } = await post('/app', { name: path })
  await post(`/app/${id}/endpoint`, { url: `${receiver.url}${path}`, batching })
  await stage.pool.query(`UPDATE endpoint SET updated_at = updated_at - interval '1 min' WHERE app_id = $1`, [id])
  return id
}

async function publish(app: string, count: number): Promise<string[]> {
  const ids: string[] = []
  for (let n = 0; n < count; n++) ids.push((await post(`/app/${app}/msg`, { eventType: 'step.taken', payload: { n } })).id)
  return ids
}

test('a batch whose worker is killed before it has recorded it is sent again: the same events, the same id', async () => {
  const [, , first] = await Promise.all([stage.startApi(), stage.startWorker('dispatcher'), stage.startWorker('delivery')])
  const app = await batchedEndpoint('/held', { maxEvents: 3, lingerMs: 1000 })
  const ids = await publish(app, 3)
  const [held] = await receiver.waitFor(1, { matches: at('/held') })
  await stage.end(first, 'SIGKILL')
  const others = await publish(app, 4)
  await stage.startWorker('delivery')
  const [, again, ...rest] = await receiver.waitFor(4, { matches: at('/held'), timeoutMs: 90_000 })
  assert.deepEqual(eventsOf(held!), ids)
  assert.equal(again!.headers['webhook-id'], held!.headers['webhook-id'])
  assert.equal(again!.body, held!.body)
  assert.deepEqual(rest.flatMap(eventsOf), others)
})

test('what an API process accepted that was killed before it could wake the mailbox is delivered, without a fan-out', async () => {
  const api = await stage.startApi()
  const app = await batchedEndpoint('/never-woken', { maxEvents: 10, lingerMs: 10 })
  stage.signalTemporal('SIGSTOP')
  const ids = await publish(app, 5)
  await stage.end(api, 'SIGKILL')
  stage.signalTemporal('SIGCONT')
  const { rows } = await stage.pool.query('SELECT FROM outbox WHERE message_id = ANY($1)', [ids])
  assert.deepEqual(rows, [])
  await Promise.all([stage.startWorker('dispatcher'), stage.startWorker('delivery')])
  const received = await receiver.waitFor(1, { matches: at('/never-woken'), timeoutMs: 90_000 })
  assert.deepEqual(received.flatMap(eventsOf), ids)
})
