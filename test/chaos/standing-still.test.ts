import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { Svix } from 'svix'
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

let stage: Stage
let receiver: Receiver

before(async () => {
  stage = await setStage({ env: { TIDINGS_LANE_REQUESTS: `fast=${REQUESTS},slow=${REQUESTS},retry=${REQUESTS}` } })
  receiver = await startReceiver(() => ({ status: 200, afterMs: ANSWER_AFTER_MS }))
})

after(async () => {
  await receiver.close()
  await stage.close()
})

const pairs = () => receiver.received.map(({ path, headers }) => `${path} ${headers['webhook-id']}`)

test('what Temporal gives to another worker, because it could not hear the first, that one sends no more', async (t) => {
  await Promise.all([stage.startApi(), stage.startWorker('all'), stage.startWorker('all')])
  const svix = new Svix(stage.token, { serverUrl: stage.apiUrl })
  const { id: appId } = await svix.application.create({ name: 'standing still' })
  for (let i = 0; i < ENDPOINTS; i++) await svix.endpoint.create(appId, { url: `${receiver.url}/${i}` })
  const { apiUrl, token } = stage
  await publish({ apiUrl, token, appId, events: EVENTS, concurrency: 32 }).done
  await eventually({ what: 'the first arrivals', withinMs: 20_000 }, () => pairs().length >= 2 * REQUESTS)
  stage.signalTemporal('SIGSTOP')
  await delay(STOPPED_MS)
  const before = pairs().length
  stage.signalTemporal('SIGCONT')
  await eventually({ what: 'all events', withinMs: TAKEN_OVER_WITHIN_MS, told: () => `${new Set(pairs()).size} arrived` }, () => {
    return new Set(pairs()).size === EVENTS * ENDPOINTS
  })
  await untilFanOutsEnded(stage, TAKEN_OVER_WITHIN_MS)
  const twice = pairs().length - EVENTS * ENDPOINTS
  t.diagnostic(`${before} had arrived when Temporal went on; ${twice} were sent twice`)
  // In flight in both workers when they were told.
  assert.ok(twice <= 2 * REQUESTS, `${twice} were sent twice`)
})
