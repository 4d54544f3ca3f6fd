import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { openDatabaseCounter } from '../../bench/database.ts'
import { arrivalsOf, total } from '../../bench/ledger.ts'
import { buildPayload } from '../../bench/payload.ts'
import { sampleCpu, sampleRssMb } from '../../bench/process-groups.ts'
import { createPublisher } from '../../bench/publisher.ts'
import { startRelay } from '../../bench/relay.ts'
import { openSeed } from '../../bench/seed.ts'
import { startSink } from '../../bench/sink.ts'
import { createCipher } from '../../storage/cipher.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase } from '../support/postgres.ts'

const KEY = 'of this test only, 32 characters or more'

test('the bare relay sends every event to every endpoint of its application, and to no other', async (t) => {
  const [relay, sink] = [await startRelay(), await startSink()]
  const publisher = createPublisher(relay.url, 'none')
  t.after(async () => {
    await publisher.close()
    await sink.stop()
    await relay.stop()
  })
  const scenario = { name: 'relay', behaviours: ['healthy', 'healthy', 'healthy'] as const, messages: 5, publishers: 1 }
  const { ledger, urls } = await sink.begin('relay', { ...scenario, payloadBytes: 200, silenceMs: 0, capMs: 0 })
  const { id } = await publisher.createApplication('relay', urls.slice(0, 2))
  await publisher.createApplication('another', urls.slice(2))
  for (let message = 0; message < 5; message++) await publisher.publish(id, `relay-${message}`, buildPayload('relay', message, 200))
  await eventually(
    async () => total(ledger, 'complete'),
    (complete) => complete === 10,
  )
  for (let message = 0; message < 5; message++) {
    assert.deepEqual(
      [0, 1, 2].map((endpoint) => arrivalsOf(ledger, endpoint, message)),
      [1, 1, 0],
    )
  }
  assert.ok(sampleRssMb(relay.groups)['relay']! > 10)
  await publisher.deleteApplication(id)
})

test('memory and CPU of a group are those of its processes', () => {
  const groups = [{ name: 'self', pids: [process.pid] }]
  const rssMb = process.memoryUsage().rss / 1e6
  assert.ok(Math.abs(sampleRssMb(groups)['self']! - rssMb) < rssMb / 2)
  assert.ok(sampleCpu(groups).groups['self']! > 0)
  assert.deepEqual(sampleRssMb([{ name: 'gone', pids: [2 ** 30] }]), { gone: 0 })
})

test('statements that write are counted with their log', async (t) => {
  const database = await createTestDatabase()
  const counter = await openDatabaseCounter(database.url)
  const client = new pg.Client({ connectionString: database.url })
  await client.connect()
  t.after(async () => {
    await client.end()
    await counter.close()
    await database.drop()
  })
  const before = await counter.read()
  await client.query("CREATE TABLE counted AS SELECT repeat('x', 1000) FROM generate_series(1, 1000)")
  // A server tells of its transactions when its connection rests.
  await client.query('SELECT pg_stat_force_next_flush()')
  const after = await eventually(
    () => counter.read(),
    ({ transactions }) => transactions > before.transactions,
  )
  assert.ok(after.walBytes - before.walBytes > 1_000_000, String(after.walBytes - before.walBytes))
})

test('seeded endpoints and messages are there in number, and their secrets decrypt', async (t) => {
  const database = await createTestDatabase()
  const seed = await openSeed(database.url, KEY)
  const client = new pg.Client({ connectionString: database.url })
  await client.connect()
  t.after(async () => {
    await client.end()
    await seed.close()
    await database.drop()
  })
  await seed.growEndpoints(100)
  await seed.growEndpoints(200)
  assert.equal(await seed.growMessages(1000, 60_000), 1000)
  const urls = Array.from({ length: 10 }, (_, i) => `http://127.0.0.1:1/${i}`)
  await seed.pointTo(seed.applications(10), urls)
  const { rows } = await client.query<{ app: string; urls: string[]; secret: Buffer }>(
    `SELECT app_id AS app, array_agg(url ORDER BY url) AS urls, min(secret_cipher) AS secret FROM endpoint e JOIN endpoint_secret s ON s.endpoint_id = e.id
     GROUP BY app_id ORDER BY app_id`,
  )
  assert.equal(rows.length, 20)
  assert.deepEqual(
    rows.slice(0, 10).map((row) => [row.app, row.urls]),
    seed.applications(10).map((app) => [app, urls]),
  )
  assert.match(createCipher(KEY).decrypt(rows[0]!.secret), /^whsec_/)
  const { rows: counts } = await client.query<{ messages: number; attempts: number; strangers: number }>(
    `SELECT (SELECT count(*)::int FROM message) AS messages, (SELECT count(*)::int FROM attempt) AS attempts,
      (SELECT count(*)::int FROM attempt a WHERE NOT EXISTS (SELECT FROM endpoint e WHERE e.id = a.endpoint_id AND e.app_id = a.app_id)) AS strangers`,
  )
  assert.deepEqual(counts[0], { messages: 1000, attempts: 1000, strangers: 0 })
})
