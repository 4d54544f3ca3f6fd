import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createIntake } from '../../api/intake.ts'
import { OverloadedError } from '../../domain/errors.ts'
import { newId } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import type { NewMessage } from '../../domain/message.ts'
import { createMessageCache } from '../../storage/messages.ts'
import { eventually } from '../support/eventually.ts'
import { startApi, type Harness } from './harness.ts'

let api: Harness
let app: string
before(async () => {
  api = await startApi()
  app = (await api.svix.application.create({ name: 'Overload' })).id
})
after(() => api.close())

/** Nothing is committed until the function that it gives is called. */
async function holdCommits(): Promise<() => Promise<void>> {
  const client = await api.pool.connect()
  await client.query('BEGIN')
  await client.query('LOCK TABLE message IN ACCESS EXCLUSIVE MODE')
  return async () => {
    await client.query('COMMIT')
    client.release()
  }
}

test('more bytes than may wait are answered 429 with Retry-After, and nothing of them is stored', async () => {
  const release = await holdCommits()
  const chars = 2_000_000
  const fitting = Math.floor(LIMITS.publishesWaitingMaxBytes / (chars + 10))
  const publish = () => api.call('POST', `/app/${app}/msg`, { eventType: 'x', payload: { text: 'a'.repeat(chars) } })
  // While nothing is committed only those that are refused are answered.
  const answers: Awaited<ReturnType<typeof publish>>[] = []
  const publishing = Array.from({ length: fitting + 3 }, async () => answers.push(await publish()))
  await eventually(
    () => Promise.resolve(answers.length),
    (answered) => answered === 3,
  )
  for (const { status, json, headers } of answers) {
    assert.deepEqual([status, json.code, headers.get('retry-after')], [429, 'too_many_requests', '1'])
  }
  await release()
  await Promise.all(publishing)
  assert.equal(answers.filter(({ status }) => status === 202).length, fitting)
  assert.equal((await publish()).status, 202)
  const { rows } = await api.pool.query<{ stored: number }>('SELECT count(*)::int AS stored FROM message WHERE app_id = $1', [app])
  assert.equal(rows[0]!.stored, fitting + 1)
})

test('more publishes than may wait are refused, those that wait are accepted', async () => {
  const intake = createIntake({ pool: api.pool, messages: createMessageCache(), groupLeaseMs: 10_000 })
  const release = await holdCommits()
  const nowMs = Date.now()
  const publish = () => {
    const message: NewMessage = {
      id: newId('msg'),
      appId: app,
      eventType: 'x',
      eventId: null,
      channels: null,
      payload: '{}',
      createdAtMs: nowMs,
      expiresAtMs: nowMs + 86_400_000,
    }
    return intake.accept(message)
  }
  const waiting = Array.from({ length: LIMITS.publishesWaitingMax }, publish)
  await assert.rejects(publish(), OverloadedError)
  await release()
  await Promise.all(waiting)
  await publish()
})
