import assert from 'node:assert/strict'
import { after, afterEach, before, beforeEach, mock, test } from 'node:test'
import { createIntake } from '../../api/intake.ts'
import { newId } from '../../domain/ids.ts'
import type { NewMessage } from '../../domain/message.ts'
import { createMessageCache } from '../../storage/messages.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createRecorder } from '../../storage/recorder.ts'
import type { Record } from '../../storage/records.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

let database: TestDatabase
let pool: Pool

before(async () => {
  database = await createTestDatabase()
})

beforeEach(() => {
  pool = createPool(database.url, 2)
})

afterEach(() => pool.end())

after(() => database.drop())

/** Postgres dies after the commit of the next statement of this name, before its answer. */
function loseAnswerOf(name: string): void {
  const query = pool.query.bind(pool) as (...args: unknown[]) => Promise<unknown>
  let lost = false
  mock.method(pool, 'query', async (...args: unknown[]) => {
    const result = await query(...args)
    if (lost || (args[0] as { name?: string }).name !== name) return result
    lost = true
    throw new Error('Connection terminated unexpectedly')
  })
}

function success(messageId: string): Record {
  const of = { messageId, endpointId: 'ep_1', appId: 'app_1', trigger: 0, groupId: messageId } as const
  const answer = { eventType: 'a.b', url: 'https://example.com', status: 0, responseCode: 200, responseBody: '', durationMs: 1 } as const
  const attempt = { ...of, ...answer, id: newId('atmpt'), runId: '00000000-0000-4000-8000-000000000001', createdAtMs: Date.now() }
  return { ...of, attempt, change: { state: 'delivered', hadRow: false } }
}

test('an attempt whose commit was not answered is recorded once, and its delivery goes on', async () => {
  loseAnswerOf('record-successes')
  const recorder = createRecorder({ pool, onWake: () => undefined })
  const messageId = newId('msg')
  await recorder.record(success(messageId))
  const { rowCount } = await pool.query('SELECT FROM attempt WHERE message_id = $1', [messageId])
  assert.equal(rowCount, 1)
})

test('a message that is stored is answered as accepted, though its dispatcher could not be told', async () => {
  loseAnswerOf('outbox-notify')
  const intake = createIntake({ pool, messages: createMessageCache(), groupLeaseMs: 10_000 })
  const message: NewMessage = {
    ...{ id: newId('msg'), appId: 'app_1', eventType: 'a.b', eventId: 'e-1', channels: null },
    ...{ payload: '{}', createdAtMs: Date.now(), expiresAtMs: Date.now() + 1e6 },
  }
  await intake.accept(message)
})
