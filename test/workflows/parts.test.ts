import assert from 'node:assert/strict'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { LIMITS } from '../../domain/limits.ts'
import { fanOutWorkflowId } from '../../domain/names.ts'
import { startStage, type Stage } from '../replay/scenarios.ts'

const ENDPOINTS = LIMITS.pendingActivitiesPerWorkflow + 20
const PER_HOST = 5

let stage: Stage
let server: Server
const open: ServerResponse[] = []
const requests = new Map<string, number>()
let enough: () => void
const allAsked = new Promise<void>((resolve) => (enough = resolve))

before(async () => {
  stage = await startStage()
  server = createServer((request, response) => {
    request.resume()
    requests.set(request.url!, (requests.get(request.url!) ?? 0) + 1)
    // The first requests hang until they are let go; what is asked for again is answered, and counted.
    if (open.length >= ENDPOINTS) return void response.end('again')
    open.push(response)
    if (open.length === ENDPOINTS) enough()
  })
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve))
})

after(async () => {
  await stage.stop()
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})

test('hundreds of endpoints that hang and then answer get one request each, also those that a part of the fan-out follows', async () => {
  const { svix } = stage.service
  const { port } = server.address() as AddressInfo
  const application = await svix.application.create({ name: 'hanging' })
  for (let i = 0; i < ENDPOINTS; i++) {
    await svix.endpoint.create(application.id, { url: `http://127.0.1.${1 + Math.floor(i / PER_HOST)}:${port}/${i}` })
  }
  const message = await svix.message.create(application.id, { eventType: 'invoice.paid', payload: {} })
  await allAsked
  // Each has been asked once and is followed by an activity that attaches to its request: now they answer.
  const whole = stage.client.workflow.getHandle(fanOutWorkflowId(message.id))
  const part = stage.client.workflow.getHandle(fanOutWorkflowId(message.id, 1))
  for (;;) {
    const { raw } = await whole.describe()
    if ((raw.pendingActivities?.length ?? 0) > 0) break
  }
  for (const response of open) response.end('ok')
  await whole.result()
  await part.result()
  assert.deepEqual(
    [...requests].filter(([, count]) => count !== 1),
    [],
  )
  assert.equal(requests.size, ENDPOINTS)
  const { rows } = await stage.pool.query<{ delivered: number }>(
    'SELECT count(*) AS delivered FROM attempt WHERE message_id = $1 AND status = 0',
    [message.id],
  )
  assert.equal(rows[0]!.delivered, ENDPOINTS)
})
