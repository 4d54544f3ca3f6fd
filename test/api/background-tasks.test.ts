import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createToken } from '../../api/token.ts'
import { newId } from '../../domain/ids.ts'
import type { ReplayRequest } from '../../domain/message.ts'
import { advanceTask, insertTask } from '../../storage/background-tasks.ts'
import { JWT_SECRET, startApi, type Harness } from './harness.ts'
import { createRecorded, type Recorded } from './recorded.ts'

let api: Harness
let recorded: Recorded
before(async () => {
  api = await startApi()
  recorded = await createRecorded(api)
})
after(() => api.close())

const since = new Date(Date.now() - 3_600_000)

test('a task can be read while it runs and after it has ended', async () => {
  const { id } = await api.svix.endpoint.recover(recorded.app, 'first', { since })
  const running = await api.svix.backgroundTask.get(id)
  assert.deepEqual([running.id, running.status, running.task, running.data], [id, 'running', 'endpoint.recover', { deliveries: 0 }])
  await advanceTask(api.pool, id, { deliveries: 2 })
  await advanceTask(api.pool, id, { deliveries: 3 }, 'finished')
  await advanceTask(api.pool, id, { deliveries: 7 }, 'failed')
  const finished = await api.svix.backgroundTask.get(id)
  assert.deepEqual([finished.status, finished.data], ['finished', { deliveries: 5 }])
})

test('tasks are listed newest first, by status and by what they do', async () => {
  const orgId = newId('org')
  const token = await createToken({ secret: JWT_SECRET, subject: orgId })
  const ids: string[] = []
  for (const task of ['endpoint.replay', 'endpoint.recover', 'endpoint.replay'] as const) {
    const id = newId('qtask', Date.now() + 10 * ids.length)
    ids.unshift((await insertTask(api.pool, { id, orgId, appId: null, task, input: {} })).id)
  }
  await advanceTask(api.pool, ids[0]!, {}, 'finished')
  const list = async (query: string) => (await api.call('GET', `/background-task?${query}`, undefined, token)).json
  assert.deepEqual(
    (await list('')).data.map((one) => one.id),
    ids,
  )
  assert.deepEqual(
    (await list('status=running&task=endpoint.replay')).data.map((one) => one.id),
    [ids[2]],
  )
  const first = await list('limit=2')
  assert.equal(first.done, false)
  const second = await list(`limit=2&iterator=${first.iterator}`)
  assert.deepEqual([second.data.map((one) => one.id), second.done], [[ids[2]], true])
  assert.equal((await api.call('GET', '/background-task?status=lost')).status, 400)
})

test('a task is out of reach for other organisations and for other applications', async () => {
  const { id } = await api.svix.endpoint.recover(recorded.app, 'first', { since })
  const read = async (claims: { subject: string; org?: string }) => {
    const token = await createToken({ secret: JWT_SECRET, ...claims })
    const { json } = await api.call('GET', '/background-task', undefined, token)
    return [(await api.call('GET', `/background-task/${id}`, undefined, token)).status, json.data.some((one) => one.id === id)]
  }
  assert.deepEqual(await read({ subject: newId('org') }), [404, false])
  assert.deepEqual(await read({ subject: newId('app'), org: api.orgId }), [404, false])
  assert.deepEqual(await read({ subject: recorded.app, org: api.orgId }), [200, true])
  assert.equal((await api.call('GET', '/background-task/nothing')).status, 404)
})

test('a replay of what is missing, or by status, channel and type, is asked for as the API says', async () => {
  const missing = await api.svix.endpoint.replayMissing(recorded.app, 'first', { since })
  assert.deepEqual([missing.status, missing.task], ['running', 'endpoint.replay'])
  const asked = () => api.tasks.at(-1)!.input as ReplayRequest
  assert.deepEqual([asked().status, asked().endpointId, asked().retried], ['missing', recorded.endpoint, undefined])
  const bulk = (body: object) => api.call('POST', `/app/${recorded.app}/endpoint/first/bulk-replay`, { since, ...body })
  const all = await bulk({})
  assert.deepEqual([all.status, all.json['task'], asked().status], [202, 'endpoint.bulk-replay', 'attempted'])
  await bulk({ status: 0, statusCodeClass: 200, channel: 'shop', eventTypes: ['a.b', 'a.b'] })
  assert.deepEqual([asked().status, asked().statusCodeClass, asked().channel, asked().eventTypes], ['delivered', 200, 'shop', ['a.b']])
  await bulk({ status: 2, statusCodeClass: 0 })
  assert.deepEqual([asked().status, asked().statusCodeClass], ['failed', 0])
  assert.equal((await bulk({ status: 4 })).status, 422)
  assert.equal((await bulk({ statusCodeClass: 600 })).status, 422)
  assert.equal((await bulk({ tag: 'vip' })).status, 422)
  assert.equal((await bulk({ until: new Date(since.getTime() - 1) })).status, 422)
})
