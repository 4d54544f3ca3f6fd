import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Svix } from 'svix'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { eventually } from './eventually.ts'
import { setStage, untilFanOutsEnded, type Stage } from './stage.ts'

const EVENTS = 150
const ENDPOINTS = 8
const WITHIN_MS = 90_000

let stage: Stage
let receiver: Receiver
/** Messages that were delivered, by path, in the order of their deliveries. */
const delivered = new Map<string, string[]>()

before(async () => {
  stage = await setStage({ env: { TIDINGS_RETRY_SCHEDULE: '1,1,1,2,2,2', TIDINGS_HEALTH_MIN_ATTEMPTS: '1000000' } })
  // Each delivery fails once, so that each goes through a task queue of the retry lane.
  receiver = await startReceiver((one, earlier) => {
    if (earlier === 0 && (one.path !== '/fifo' || delivered.get('/fifo')?.length === 20)) return { status: 500 }
    delivered.set(one.path, [...(delivered.get(one.path) ?? []), one.headers['webhook-id']!])
    return { status: 200 }
  })
})

after(async () => {
  await stage?.close()
  await receiver?.close()
})

test('the number of partitions goes from 4 to 8 to 2 under load: nothing is lost, and a fifo endpoint keeps its order', async () => {
  const workers = (partitions: number) => stage.startWorker('all', { TIDINGS_PARTITIONS: String(partitions) })
  let [running] = await Promise.all([workers(4), stage.startApi()])
  const svix = new Svix(stage.token, { serverUrl: stage.apiUrl })
  const { id: appId } = await svix.application.create({ name: 'partitions' })
  for (let i = 0; i < ENDPOINTS; i++) await svix.endpoint.create(appId, { url: `${receiver.url}/${i}` })
  const fifo = await svix.endpoint.create(appId, { url: `${receiver.url}/fifo` })
  await stage.pool.query(`UPDATE endpoint SET ordering = 'fifo' WHERE id = $1`, [fifo.id])
  const published: string[] = []
  const change = async (partitions: number) => {
    const before = running
    running = await workers(partitions)
    assert.equal(await stage.end(before, 'SIGTERM'), 0)
  }
  const changing: Promise<void>[] = []
  for (let n = 0; n < EVENTS; n++) {
    // The second change begins when the first has ended.
    if (n === EVENTS / 3) changing.push(change(8))
    if (n === (EVENTS * 2) / 3) await changing[0]?.then(() => changing.push(change(2)))
    published.push((await svix.message.create(appId, { eventType: 'a', payload: { n } })).id)
  }
  await Promise.all(changing)
  const count = () => [...delivered.values()].reduce((sum, ids) => sum + new Set(ids).size, 0)
  await eventually({ what: 'all deliveries', withinMs: WITHIN_MS, told: () => `${count()} arrived\n${stage.logs()}` }, () => {
    return count() === EVENTS * (ENDPOINTS + 1)
  })
  await untilFanOutsEnded(stage, WITHIN_MS)
  for (let i = 0; i < ENDPOINTS; i++) assert.deepEqual(new Set(delivered.get(`/${i}`)), new Set(published))
  assert.deepEqual([...new Set(delivered.get('/fifo'))], published)
  assert.deepEqual(stage.fallen(), [])
})
