import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createCipher } from '../../storage/cipher.ts'
import { createPool } from '../../storage/pool.ts'
import { newId } from '../../domain/ids.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, TEST_SECRET, type TestService } from '../support/service.ts'
import { temporalJson } from '../support/temporal-cli.ts'

const ENDPOINTS = 10_000
const FAILING = 700
const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw'

let service: TestService
let receiver: Receiver

before(async () => {
  receiver = await startReceiver((one, earlier) => ({ status: one.path.startsWith('/failing') && earlier === 0 ? 503 : 200 }))
  service = await startTestService({ env: { TIDINGS_RETRY_TIME_SCALE: '0.5' } })
})

after(async () => {
  await service.stop()
  await receiver.close()
})

/** Straight into Postgres: ten thousand requests would take longer than what is tested. */
async function insertEndpoints(appId: string): Promise<void> {
  const pool = createPool(service.database.url, 1)
  const ids = Array.from({ length: ENDPOINTS }, () => newId('ep'))
  const urls = ids.map((_, i) => `${receiver.url}/${i < FAILING ? 'failing' : 'healthy'}/${i}`)
  await pool.query('INSERT INTO endpoint (id, app_id, url) SELECT id, $1, url FROM unnest($2::text[], $3::text[]) AS t (id, url)', [
    appId,
    ids,
    urls,
  ])
  await pool.query('INSERT INTO endpoint_secret (endpoint_id, secret_cipher) SELECT id, $1 FROM endpoint WHERE app_id = $2', [
    createCipher(TEST_SECRET).encrypt(SECRET),
    appId,
  ])
  await pool.end()
}

test('a message to ten thousand endpoints reaches each one, also the hundreds that fail at first', async () => {
  const application = await service.svix.application.create({ name: 'large' })
  await insertEndpoints(application.id)
  const message = await service.svix.message.create(application.id, { eventType: 'invoice.paid', payload: { amount: 1 } })
  await receiver.waitFor(ENDPOINTS + FAILING, { timeoutMs: 120_000 })
  assert.equal(new Set(receiver.received.map((one) => one.path)).size, ENDPOINTS)
  assert.equal(receiver.received.length, ENDPOINTS + FAILING)
  const query = `WorkflowType = 'fanOut' AND MessageIds = '${message.id}'`
  const parts = await eventually(
    () => temporalJson<{ execution: { workflowId: string }; status: string }[]>(service.temporal, 'workflow', 'list', '--query', query),
    (list) => list.length >= 3 && list.every((one) => one.status === 'WORKFLOW_EXECUTION_STATUS_COMPLETED'),
  )
  // 300 of the failing endpoints stay with the fan-out; the others, and what was slow on a busy machine, go on in parts.
  const ids = new Set(parts.map((part) => part.execution.workflowId))
  for (const id of [`fan-out/${message.id}`, `fan-out/${message.id}/1`, `fan-out/${message.id}/2`]) assert.ok(ids.has(id), id)
})
