/** What stays behind of events, deliveries and endpoints: bytes in Postgres, in Temporal's histories, and on the wire. */
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { Client, Connection } from '@temporalio/client'
import pg from 'pg'
import { readOptions, runCommand } from '../cli/command.ts'
import { createProgress, type Progress } from '../cli/progress.ts'
import { lineThrough } from '../domain/capacity-costs.ts'
import { execute, type Bench } from './driver.ts'
import { describeRun, nameOf, RESULTS_FOLDER, writeFiles } from './history.ts'
import { startOwnService, type OwnService } from './own-service.ts'
import { buildPayload } from './payload.ts'
import { createPublisher, type Publisher } from './publisher.ts'
import { scenarioOf } from './scenarios.ts'
import { openSeed } from './seed.ts'
import { startSink } from './sink.ts'
import { medianOf } from './statistics.ts'

const HELP = `npm run bench:footprint

Publishes the scenarios S1 to S4 once to a service of its own, and measures the bytes that an event, a delivery, an endpoint and a
fan-out leave behind, and those of a request. Written to bench/results/footprint-….json, which npm run plan reads. Takes a minute.`

const SCENARIOS = ['S1', 'S2', 'S3', 'S4']
const RETRY = { endpoints: 1, messages: 1, ratePerS: 1, scheduleS: [1] }
const WEBHOOKS = 10_000
const PAYLOAD_BYTES = 1024
const REQUESTS = 20
/** Fan-outs of a scenario whose histories are looked at. */
const DESCRIBED = 50
/** Histories are in lists a moment after their workflows have ended. */
const LISTED_MS = 3000

await runCommand({
  help: HELP,
  async main(args) {
    readOptions(args, {})
    const progress = createProgress()
    const about = describeRun(new Date())
    const service = await progress.step('starting a service', startOwnService)
    try {
      const footprint = await measure(service, progress)
      const text = `${JSON.stringify({ ...about, footprint }, null, 2)}\n`
      process.stdout.write(text)
      const path = writeFiles(RESULTS_FOLDER, `footprint-${nameOf(new Date(about.start))}`, { json: text })
      progress.say(`written to ${path}`)
      return 0
    } finally {
      await service.stop()
    }
  },
})

async function measure(service: OwnService, progress: Progress): Promise<Readonly<Record<string, number>>> {
  const publisher = createPublisher(service.url, service.token)
  const sink = await startSink()
  const database = new pg.Client({ connectionString: service.databaseUrl })
  await database.connect()
  const bench: Bench = { peer: 'tidings', publisher, sink, groups: service.groups, databaseUrl: undefined, database: undefined }
  try {
    const before = await tableBytes(database)
    const totals = { events: 0, deliveries: 0 }
    const fanOuts: { x: number; y: number }[] = []
    for (const name of SCENARIOS) {
      const startedAtMs = Date.now()
      const result = await progress.step(name, () => execute(bench, scenarioOf(name, RETRY), 1))
      totals.events += result.accepted
      totals.deliveries += result.delivered
      fanOuts.push(await historiesSince(service, startedAtMs, result.accepted))
    }
    const after = await tableBytes(database)
    progress.say(`events and bytes of a fan-out's history: ${fanOuts.map(({ x, y }) => `${x.toFixed(1)} ${Math.round(y)}`).join(', ')}`)
    const history = lineThrough(fanOuts)
    return {
      storedBytesPerEvent: Math.round((after.message - before.message) / totals.events),
      storedBytesPerDelivery: Math.round((after.attempt - before.attempt) / totals.deliveries),
      storedBytesPerWebhook: await progress.step('endpoints', () => webhookBytes(service, database)),
      historyBytesPerFanOut: Math.round(history.perEvent),
      historyBytesPerEvent: Math.round(history.perDelivery),
      requestBytes: await progress.step('a request', () => requestBytes(publisher)),
    }
  } finally {
    await database.end()
    await sink.stop()
    await publisher.close()
  }
}

/** Bytes of tables with their indexes, after what is dead in them was given back. */
async function tableBytes(database: pg.Client): Promise<{ readonly message: number; readonly attempt: number; readonly endpoint: number }> {
  await database.query('VACUUM message, message_event_id, attempt, endpoint, endpoint_secret')
  const { rows } = await database.query<{ message: number; attempt: number; endpoint: number }>(`
    SELECT (pg_total_relation_size('message') + pg_total_relation_size('message_event_id'))::float8 AS message,
      pg_total_relation_size('attempt')::float8 AS attempt,
      (pg_total_relation_size('endpoint') + pg_total_relation_size('endpoint_secret'))::float8 AS endpoint`)
  return rows[0]!
}

async function webhookBytes(service: OwnService, database: pg.Client): Promise<number> {
  const before = await tableBytes(database)
  const seed = await openSeed(service.databaseUrl, service.encryptionKey)
  try {
    await seed.growEndpoints(WEBHOOKS)
  } finally {
    await seed.close()
  }
  return Math.round(((await tableBytes(database)).endpoint - before.endpoint) / WEBHOOKS)
}

/** Of the fan-outs since then: events of one (x), and bytes of its history (y), which hardly grows with their deliveries. */
async function historiesSince(service: OwnService, startedAtMs: number, events: number): Promise<{ x: number; y: number }> {
  await delay(LISTED_MS)
  const connection = await Connection.connect({ address: service.temporalAddress })
  try {
    const client = new Client({ connection, namespace: service.namespace })
    const query = `WorkflowType = 'fanOut' AND StartTime >= '${new Date(startedAtMs).toISOString()}'`
    const sizes: number[] = []
    let fanOuts = 0
    for await (const { workflowId, runId } of client.workflow.list({ query })) {
      fanOuts++
      // Lists do not know the size of what has ended.
      if (sizes.length < DESCRIBED) sizes.push((await client.workflow.getHandle(workflowId, runId).describe()).historySize ?? 0)
    }
    return { x: events / Math.max(1, fanOuts), y: sizes.reduce((sum, one) => sum + one, 0) / Math.max(1, sizes.length) }
  } finally {
    await connection.close()
  }
}

/** What a request is besides its payload: its first line and its headers. */
async function requestBytes(publisher: Publisher): Promise<number> {
  const sizes: number[] = []
  const received = new Map<Socket, string>()
  const server = createServer((socket) => {
    received.set(socket, '')
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => {
      const text = `${received.get(socket) ?? ''}${chunk.toString('latin1')}`
      received.set(socket, text)
      const end = text.indexOf('\r\n\r\n')
      if (end < 0 || text.length < end + 4 + PAYLOAD_BYTES) return
      sizes.push(end + 4)
      received.set(socket, '')
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')
      server.emit('measured')
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/webhooks/tidings`
  try {
    const { id } = await publisher.createApplication('footprint', [url])
    for (let i = 0; i < REQUESTS; i++) {
      const measured = once(server, 'measured')
      await publisher.publish(id, `footprint-${i}`, buildPayload('footprint', i, PAYLOAD_BYTES))
      await measured
    }
    return medianOf(sizes)
  } finally {
    for (const socket of received.keys()) socket.destroy()
    server.close()
  }
}
