import assert from 'node:assert/strict'
import { after, afterEach, before, test } from 'node:test'
import { eventually } from './eventually.ts'
import { publishDuring, type Running } from './scenario.ts'
import { setStage, type Stage, type WorkerRole } from './stage.ts'
import type { RunningProcess } from '../support/processes.ts'

const EVENTS_PER_S = 40
const ROUNDS = 1
const WITHIN_MS = 60_000

let stage: Stage

before(async () => {
  stage = await setStage()
})

afterEach(() => stage.endAll())

after(() => stage.close())

interface Fleet {
  api: { readonly url: string; readonly process: RunningProcess }
  readonly workers: Map<WorkerRole, RunningProcess>
}

/** In each round every role gets a process more, and then loses the one that it had before. */
async function replaceAll(fleet: Fleet, { publishing }: Running, signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) {
    for (const [role, before] of fleet.workers) {
      fleet.workers.set(role, await stage.startWorker(role))
      await moreEvents(publishing)
      assert.equal(await stage.end(before, signal), signal === 'SIGTERM' ? 0 : signal)
      await moreEvents(publishing)
    }
    const before = fleet.api
    fleet.api = await stage.startSecondApi()
    publishing.to([before.url, fleet.api.url])
    await moreEvents(publishing)
    // A load balancer takes it out first; one that is killed it finds gone.
    if (signal === 'SIGTERM') publishing.to([fleet.api.url])
    assert.equal(await stage.end(before.process, signal), signal === 'SIGTERM' ? 0 : signal)
    publishing.to([fleet.api.url])
    await moreEvents(publishing)
  }
}

async function moreEvents(publishing: Running['publishing']): Promise<void> {
  const wanted = publishing.count() + EVENTS_PER_S
  await eventually({ what: `${EVENTS_PER_S} more events`, withinMs: WITHIN_MS }, () => publishing.count() >= wanted)
}

async function startFleet(): Promise<Fleet> {
  const roles: readonly WorkerRole[] = ['dispatcher', 'delivery', 'all']
  const [process, ...workers] = await Promise.all([stage.startApi(), ...roles.map((role) => stage.startWorker(role))])
  return { api: { url: stage.apiUrl, process }, workers: new Map(roles.map((role, i) => [role, workers[i]!])) }
}

test('processes of every role are added and stopped under load: nothing is lost and nothing sent twice', async (t) => {
  const fleet = await startFleet()
  const { report, account } = await publishDuring(t, stage, EVENTS_PER_S, (running) => replaceAll(fleet, running, 'SIGTERM'))
  assert.deepEqual([report.failedTries, report.conflicts], [0, 0], 'publishes that were cut off')
  assert.deepEqual([...account.duplicates], [])
  assert.equal(account.unrecorded, 0)
})

test('processes of every role are added and killed under load: nothing is lost', async (t) => {
  const fleet = await startFleet()
  const { account } = await publishDuring(t, stage, EVENTS_PER_S, (running) => replaceAll(fleet, running, 'SIGKILL'))
  t.diagnostic(`${account.unrecorded} requests were in flight or unrecorded at the kills and were sent again`)
})
