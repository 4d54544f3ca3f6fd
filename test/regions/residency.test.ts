import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { Svix } from 'svix'
import { createToken } from '../../api/token.ts'
import { newId } from '../../domain/ids.ts'
import { eventually } from '../support/eventually.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { SECRET, setRegions, type RegionStage } from './stage.ts'

const UID = 'canary-in-a-uid'
const NAME = 'canary-in-a-name'
const PAYLOAD = 'canary-in-a-payload'
const TYPE = 'canary.in-a-type'
const PATH = '/canary-in-a-path'

let stage: RegionStage<'west' | 'eu'>
let receiver: Receiver
let organisation: string
let token: string
before(async () => {
  ;[stage, receiver] = await Promise.all([setRegions({ west: {}, eu: { zone: 'eu' } }, ['west']), startReceiver()])
  organisation = newId('org')
  token = await createToken({ secret: SECRET, subject: organisation })
})
after(async () => {
  await receiver.close()
  await stage.close()
})

/** All that is known of the resident application, and may be nowhere else. */
const forbidden = new Set([UID, NAME, PAYLOAD, TYPE, PATH])

async function call<T>(url: string, method: string, path: string, body?: unknown): Promise<{ status: number; json: T }> {
  const answer = await fetch(`${url}/api/v1${path}`, {
    method,
    headers: { authorization: `Bearer ${token}` },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  })
  const text = await answer.text()
  return { status: answer.status, json: (text === '' ? {} : JSON.parse(text)) as T }
}

test('the client of Svix works through a region that may not hold the application: it is delivered from its zone', async () => {
  const { url } = stage.region('west')
  const { status, json } = await call<{ id: string }>(url, 'POST', '/app', { name: NAME, uid: UID, residency: 'eu' })
  assert.equal(status, 201)
  const svix = new Svix(token, { serverUrl: url, retryScheduleInMs: [] })
  assert.equal((await svix.application.get(UID)).id, json.id)
  assert.equal((await svix.application.patch(UID, { metadata: { k: 'v' } })).metadata['k'], 'v')
  const endpoint = await svix.endpoint.create(UID, { url: `${receiver.url}${PATH}` })
  const { key } = await svix.endpoint.getSecret(UID, endpoint.id)
  const sent = [await svix.message.create(UID, { eventType: TYPE, payload: { secret: PAYLOAD } })]
  await receiver.waitFor(1)
  sent.push(await svix.message.create(json.id, { eventType: TYPE, payload: { secret: PAYLOAD } }, { idempotencyKey: 'canary' }))
  sent.push(await svix.message.create(json.id, { eventType: TYPE, payload: { secret: PAYLOAD } }, { idempotencyKey: 'canary' }))
  assert.equal(sent[1]!.id, sent[2]!.id)
  await receiver.waitFor(2)
  assert.ok(receiver.received.every(({ body, path }) => body.includes(PAYLOAD) && path === PATH))
  const attempts = await eventually(
    () => svix.messageAttempt.listByEndpoint(UID, endpoint.id),
    (list) => list.data.length === 2,
  )
  const resent = await svix.messageAttempt.resend(UID, sent[0]!.id, endpoint.id).then(() => receiver.waitFor(3))
  assert.equal(resent[2]!.headers['webhook-id'], sent[0]!.id)
  await assert.rejects(svix.message.get(UID, 'msg_none'), (error: { code?: number }) => error.code === 404)
  for (const id of [endpoint.id, key.slice(6), ...sent.map((one) => one.id), ...attempts.data.map((one) => one.id)]) forbidden.add(id)
  assert.ok(forbidden.size >= 11)
})

test('what goes wrong on the way is told, and not logged with what it was about', async () => {
  const west = stage.region('west')
  await stage.stopApi('eu')
  const { status, json } = await call<{ code: string }>(west.url, 'POST', `/app/${UID}/msg`, {
    eventType: TYPE,
    payload: { secret: PAYLOAD },
  })
  assert.deepEqual([status, json.code], [502, 'region_unreachable'])
  await stage.startApi('eu')
  await eventually(
    () => call(west.url, 'GET', `/app/${UID}`),
    (answer) => answer.status === 200,
  )
})

test('where nothing is passed on it is refused with the URL of its home', async () => {
  await stage.stopApi('west')
  await stage.startApi('west', { TIDINGS_REGION_FORWARDING: 'false' })
  const before = receiver.received.length
  const { status, json } = await call<Record<string, string>>(stage.region('west').url, 'POST', `/app/${UID}/msg`, {
    eventType: TYPE,
    payload: { secret: PAYLOAD },
  })
  assert.deepEqual([status, json['code'], json['home']], [421, 'misdirected', stage.region('eu').url])
  const { status: atHome } = await call(json['home']!, 'POST', `/app/${UID}/msg`, { eventType: TYPE, payload: { secret: PAYLOAD } })
  assert.equal(atHome, 202)
  await receiver.waitFor(before + 1)
})

/** Rows of every table that hold one of the texts, as `table: text`. */
async function rowsWith(databaseUrl: string, texts: Iterable<string>): Promise<string[]> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  const { rows: tables } = await client.query<{ name: string }>(
    `SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'`,
  )
  const found: string[] = []
  for (const { name } of tables) {
    for (const text of texts) {
      const { rowCount } = await client.query(`SELECT 1 FROM "${name}" t WHERE strpos(t::text, $1) > 0 LIMIT 1`, [text])
      if (rowCount !== 0) found.push(`${name}: ${text}`)
    }
  }
  await client.end()
  return found
}

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true }).flatMap((entry) =>
    entry.isFile() ? [join(entry.parentPath, entry.name)] : [],
  )
}

test('outside of its zone nothing is stored or logged of it but its id, its organisation and its zone', async (t) => {
  const { rows } = await (async () => {
    const client = new pg.Client({ connectionString: stage.region('eu').databaseUrl })
    await client.connect()
    const answer = await client.query<{ id: string }>('SELECT id FROM application WHERE uid = $1', [UID])
    const messages = await client.query<{ id: string }>('SELECT id FROM message UNION SELECT id FROM attempt')
    await client.end()
    for (const { id } of messages.rows) forbidden.add(id)
    return answer
  })()
  const appId = rows[0]!.id
  assert.ok((await rowsWith(stage.region('eu').databaseUrl, [UID, NAME, PAYLOAD, appId])).length > 4, 'the scan finds what is there')
  const west = stage.region('west')
  assert.deepEqual(await rowsWith(west.databaseUrl, forbidden), [])
  assert.deepEqual(await rowsWith(west.databaseUrl, [appId]), [`application_zone: ${appId}`])
  const logs = stage.logs('west')
  assert.match(logs, /request\.failed/)
  for (const text of [...forbidden, appId]) assert.ok(!logs.includes(text), `${text} in the log`)
  // Everything that its servers have on disk: tables, indexes, logs ahead of them, histories.
  const files = { postgres: filesBelow(west.folders!.postgres), temporal: filesBelow(west.folders!.temporal) }
  const found: string[] = []
  assert.ok(
    files.postgres.some((path) => readFileSync(path).includes(appId)),
    'the scan of files finds what is there',
  )
  for (const [server, paths] of Object.entries(files)) {
    for (const path of paths) {
      const content = readFileSync(path)
      for (const text of forbidden) if (content.includes(text)) found.push(`${text} in ${path}`)
      if (server === 'temporal' && content.includes(appId)) found.push(`${appId} in ${path}`)
    }
  }
  assert.deepEqual(found, [])
  t.diagnostic(`${files.postgres.length} files of Postgres and ${files.temporal.length} of Temporal scanned for ${forbidden.size} texts`)
})
