import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Svix } from 'svix'
import type { RunningProcess } from '../support/processes.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { eventually } from './eventually.ts'
import { publish } from './publishers.ts'
import { setStage, untilFanOutsEnded, type Stage } from './stage.ts'

const EVENTS = 60
const ENDPOINTS = 4
const REQUESTS = 4
/** So slow that a worker has its deliveries in hand for longer than Temporal stands still. */
const ANSWER_AFTER_MS = 800
/** Longer than a workflow's task may take. */
const STOPPED_MS = 12_000
const TAKEN_OVER_WITHIN_MS = 90_000
/** Temporal gives an activity whose worker is heard again to the next poll. */
const TAKEN_AGAIN_WITHIN_MS = 5000

let stage: Stage
let receiver: Receiver
let worker: RunningProcess
let other: RunningProcess

before(async () => {
  stage = await setStage({ env: { TIDINGS_LANE_REQUESTS: `fast=${REQUESTS},slow=${REQUESTS},retry=${REQUESTS}` } })
  receiver = await startReceiver(({ path }, earlier) =>
    path.startsWith('/failing') && earlier === 0 ? { status: 500 } : { status: 200, afterMs: ANSWER_AFTER_MS },
  )
  ;[worker, other] = await Promise.all([stage.startWorker('all'), stage.startWorker('all'), stage.startApi()])
})

after(async () => {
  await receiver.close()
  await stage.close()
})

/** Publishes to endpoints of an application of their own. @returns all that arrived there, request by request */
async function begin(name: string): Promise<() => string[]> {
  const { apiUrl, token } = stage
  const { id: appId } = await new Svix(token, { serverUrl: apiUrl }).application.create({ name })
  for (let i = 0; i < ENDPOINTS; i++) {
    // What is tried again shall not become a mailbox's.
    const body = JSON.stringify({ url: `${receiver.url}/${name}/${i}`, circuitBreaker: false })
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
    const { status } = await fetch(`${apiUrl}/api/v1/app/${appId}/endpoint`, { method: 'POST', headers, body })
    assert.equal(status, 201)
  }
  await publish({ apiUrl, token, appId, events: EVENTS, concurrency: 32 }).done
  return () =>
    receiver.received.filter(({ path }) => path.startsWith(`/${name}/`)).map(({ path, headers }) => `${path} ${headers['webhook-id']}`)
}

/** @param each requests that each delivery needs */
async function untilAllArrived(arrived: () => string[], each: number): Promise<void> {
  const enough = () => {
    const counts = new Map<string, number>()
    for (const pair of arrived()) counts.set(pair, (counts.get(pair) ?? 0) + 1)
    return [...counts.values()].filter((count) => count >= each).length
  }
  await eventually(
    { what: 'all events', withinMs: TAKEN_OVER_WITHIN_MS, told: () => `${enough()} arrived` },
    () => enough() === EVENTS * ENDPOINTS,
  )
  await untilFanOutsEnded(stage, TAKEN_OVER_WITHIN_MS)
}

test('first attempts that Temporal gives to another worker, because it could not hear the first, that one makes no more', async (t) => {
  const arrived = await begin('answering')
  await eventually({ what: 'the first arrivals', withinMs: 20_000 }, () => arrived().length >= 2 * REQUESTS)
  stage.signalTemporal('SIGSTOP')
  await delay(STOPPED_MS)
  stage.signalTemporal('SIGCONT')
  await untilAllArrived(arrived, 1)
  const twice = arrived().length - EVENTS * ENDPOINTS
  t.diagnostic(`${twice} were sent twice`)
  // In flight in both workers when they were told.
  assert.ok(twice <= 2 * REQUESTS, `${twice} were sent twice`)
})

test('nor does a worker that stood still make retries that Temporal has given to another', async (t) => {
  const arrived = await begin('failing')
  const retries = () => arrived().length - new Set(arrived()).size
  await eventually({ what: 'the first retries', withinMs: 60_000 }, () => retries() >= 2 * REQUESTS)
  worker.signal('SIGSTOP')
  await delay(STOPPED_MS)
  worker.signal('SIGCONT')
  await untilAllArrived(arrived, 2)
  const twice = retries() - EVENTS * ENDPOINTS
  t.diagnostic(`${twice} were sent once too often`)
  // In flight when it stood still, and until its next heartbeat is answered: 2 s of requests, of 56 that waited.
  assert.ok(twice <= 5 * REQUESTS, `${twice} were sent once too often`)
})

test('nor does it make again what it has made and Postgres has not taken yet', async (t) => {
  await stage.end(other, 'SIGTERM')
  const arrived = await begin('failing-alone')
  const retries = () => arrived().length - new Set(arrived()).size
  await eventually({ what: 'the first retries', withinMs: 60_000 }, () => retries() >= 2 * REQUESTS)
  const client = await stage.pool.connect()
  await client.query('BEGIN')
  // Whoever writes waits; whoever reads does not.
  await client.query('LOCK TABLE attempt IN SHARE ROW EXCLUSIVE MODE')
  const before = retries()
  await eventually({ what: 'retries that are not recorded', withinMs: 60_000 }, () => retries() >= before + 3 * REQUESTS)
  worker.signal('SIGSTOP')
  await delay(STOPPED_MS)
  worker.signal('SIGCONT')
  await delay(TAKEN_AGAIN_WITHIN_MS)
  await client.query('COMMIT')
  client.release()
  await untilAllArrived(arrived, 2)
  const twice = retries() - EVENTS * ENDPOINTS
  t.diagnostic(`${twice} were sent once too often`)
  assert.equal(twice, 0)
})
