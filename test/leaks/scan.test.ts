import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { makeCertificate } from '../support/certificates.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver } from '../support/receiver.ts'
import { startTestService, TEST_SECRET } from '../support/service.ts'
import { grant, startTokenServer } from '../support/token-server.ts'

const PAYLOAD = 'canary-in-a-payload'
const HEADER = 'canary-in-a-header'
const ANSWER = 'canary-in-an-answer'
const QUERY = 'canary-in-a-query'
const CLIENT_SECRET = 'canary-in-a-client-secret'
const TOKEN = 'canary-in-a-token'
const CLIENT = makeCertificate('leaks')

/** What may stand in no history and no log: canaries of this test; secrets and tokens of every test. */
const FORBIDDEN = [
  PAYLOAD,
  HEADER,
  ANSWER,
  QUERY,
  CLIENT_SECRET,
  TOKEN,
  CLIENT.privateKey.split('\n')[1]!,
  'PRIVATE KEY',
  TEST_SECRET,
  'whsec_',
  'whsk_',
  'eyJhbGciOi',
]

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true }).flatMap((entry) =>
    entry.isFile() ? [join(entry.parentPath, entry.name)] : [],
  )
}

test('no payload, secret or token is in a history or a log of the whole run', async (t) => {
  const folder = process.env['TIDINGS_TEST_FOLDER']
  assert.ok(folder !== undefined, 'run it through npm test, which keeps the servers and the logs of the run')
  const receiver = await startReceiver((one, earlier) => {
    if (one.path.startsWith('/hangs') && earlier === 0) return 'hang'
    return { status: one.path.startsWith('/fails') ? 500 : 200, body: ANSWER }
  })
  const service = await startTestService({
    env: { TIDINGS_RETRY_SCHEDULE: '1,1', TIDINGS_RETRY_TIME_SCALE: '0.1', TIDINGS_REQUEST_TIMEOUT_MS: '2000' },
  })
  const { svix } = service
  const application = await svix.application.create({ name: 'leaks' })
  for (const path of ['/works', '/fails', '/hangs']) {
    const endpoint = await svix.endpoint.create(application.id, { url: `${receiver.url}${path}?token=${QUERY}` })
    await svix.endpoint.patchHeaders(application.id, endpoint.id, { headers: { authorization: HEADER } })
  }
  const tokens = await startTokenServer(() => grant(TOKEN))
  const response = await fetch(`${service.url}/api/v1/app/${application.id}/endpoint`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.token}` },
    // Nobody listens at port 1: its attempts fail when they have their token.
    body: JSON.stringify({
      url: `https://127.0.0.1:1/?token=${QUERY}`,
      mtls: CLIENT,
      oauth2: { tokenUrl: tokens.url, clientId: 'leaks', clientSecret: CLIENT_SECRET },
    }),
  })
  assert.equal(response.status, 201)
  const message = await svix.message.create(application.id, { eventType: 'leak.tried', payload: { secret: PAYLOAD } })
  await eventually(
    () => svix.messageAttempt.listByMsg(application.id, message.id),
    (list) => list.data.length === 9,
  )
  assert.ok(receiver.received.every((one) => one.body.includes(PAYLOAD) && one.headers['authorization'] === HEADER))
  await service.stop()
  await receiver.close()
  await tokens.close()
  assert.equal(tokens.received.length, 1)

  const histories = filesBelow(join(folder, 'temporal')).filter((file) => /temporal\.db/.test(file))
  const logs = filesBelow(join(folder, 'logs'))
  assert.ok(histories.length > 0 && logs.length > 0)
  const found: string[] = []
  for (const file of [...histories, ...logs]) {
    const content = readFileSync(file)
    // Proof that the file holds what it should, and in clear: ids of this test's message.
    if (file.endsWith('temporal.db-wal')) assert.ok(content.includes(message.id), 'the message is in the histories')
    for (const text of FORBIDDEN) if (content.includes(text)) found.push(`${text} in ${file.slice(folder.length)}`)
  }
  t.diagnostic(`${histories.length} database files and ${logs.length} logs scanned`)
  assert.deepEqual(found, [])
})
