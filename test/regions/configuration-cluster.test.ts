import assert from 'node:assert/strict'
import { after, before, test, type TestContext } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { createPool, type Pool } from '../../storage/pool.ts'
import { eventually } from '../support/eventually.ts'
import { clusterPrograms, NO_CLUSTER_PROGRAMS, startPatroniCluster, type PatroniCluster } from '../support/patroni.ts'
import { newOrganisation, startRegion, startTestServer, type TestRegion } from '../support/shared-configuration.ts'

const VISIBLE_WITHIN_MS = 1000
/** Patroni gives a leader that is silent 20 s. */
const LEADS_WITHIN_MS = 60_000

const programs = clusterPrograms()
const skip = programs === undefined ? NO_CLUSTER_PROGRAMS : false
const started: { stop(): Promise<void> }[] = []
let cluster: PatroniCluster
let a: TestRegion
let b: TestRegion

before(async () => {
  if (programs === undefined) return
  cluster = await startPatroniCluster(programs)
  started.unshift(cluster)
  const organisation = await newOrganisation()
  const servers = await Promise.all(['region-a', 'region-b'].map(startTestServer))
  for (const server of servers) started.unshift({ stop: () => server.remove() })
  const options = { configUrls: cluster.urls, organisation }
  a = await startRegion({ ...options, name: 'region-a', databaseUrl: servers[0]!.url })
  started.unshift(a)
  b = await startRegion({ ...options, name: 'region-b', databaseUrl: servers[1]!.url })
  started.unshift(b)
})

after(async () => {
  for (const one of started) await one.stop()
})

interface Outcome {
  readonly name: string
  readonly id: string
  /** What the caller was told; `created` alone is a promise. */
  readonly told: 'created' | 'configuration_unavailable' | 'configuration_unconfirmed'
  readonly tookMs: number
}

let names = 0

async function write(region: TestRegion): Promise<Outcome> {
  const name = `application ${++names}`
  const beganMs = Date.now()
  const { status, json } = await region.call('POST', '/app', { name })
  const told = status === 201 ? 'created' : (json.code as Outcome['told'])
  return { name, id: json.id, told, tookMs: Date.now() - beganMs }
}

const namesIn = async (pool: Pool) =>
  (await pool.query<{ name: string }>('SELECT name FROM application ORDER BY name')).rows.map(({ name }) => name)

/** Both copies and the leader hold the same, all that was promised, and nothing that was refused. */
async function requireConverged(outcomes: readonly Outcome[]): Promise<void> {
  const { port } = await cluster.leader()
  const pool = createPool(
    cluster.urls.find((url) => url.includes(`:${port}/`))!,
    1,
  )
  try {
    const marker = await eventually(
      () => write(a),
      ({ told }) => told === 'created',
      LEADS_WITHIN_MS,
    )
    const kept = await namesIn(pool)
    assert.ok(kept.includes(marker.name))
    for (const region of [a, b]) {
      await eventually(
        () => namesIn(region.pool),
        (there) => JSON.stringify(there) === JSON.stringify(kept),
      )
    }
    for (const { name, told } of outcomes) {
      if (told === 'created') assert.ok(kept.includes(name), `${name} was promised`)
      if (told === 'configuration_unavailable') assert.ok(!kept.includes(name), `${name} was refused`)
    }
  } finally {
    await pool.end()
  }
}

/** Writes one after the other until it is stopped. */
function writeOnAndOn(region: TestRegion): { stop(): Promise<readonly Outcome[]> } {
  const outcomes: Outcome[] = []
  let stopped = false
  const running = (async () => {
    while (!stopped) {
      outcomes.push(await write(region))
      await pause(50)
    }
  })()
  return {
    async stop() {
      stopped = true
      await running
      return outcomes
    },
  }
}

test('a change that a quorum has is in every region within a second', { skip }, async (context: TestContext) => {
  const times: number[] = []
  for (let i = 0; i < 10; i++) {
    const { id, told } = await write(a)
    assert.equal(told, 'created')
    const beganMs = Date.now()
    await eventually(
      async () => (await b.pool.query('SELECT FROM application WHERE id = $1', [id])).rowCount,
      (count) => count === 1,
    )
    times.push(Date.now() - beganMs)
  }
  context.diagnostic(`ms from the answer to the other region's copy: ${times.join(', ')}`)
  assert.ok(Math.max(...times) < VISIBLE_WITHIN_MS)
})

test('with a member away changes go on, and are in every region within a second', { skip }, async () => {
  await cluster.complete(2)
  const leader = await cluster.leader()
  const other = cluster.members.find((member) => member !== leader)!
  await other.kill()
  await pause(1000)
  const { id } = await eventually(
    () => write(a),
    ({ told }) => told === 'created',
  )
  await eventually(
    async () => (await b.pool.query('SELECT FROM application WHERE id = $1', [id])).rowCount,
    (count) => count === 1,
    VISIBLE_WITHIN_MS,
  )
  other.start()
  await requireConverged([])
})

test('a leader that dies is replaced: nothing that was promised is lost, and all regions have the same', { skip }, async (context) => {
  await cluster.complete(2)
  const writing = writeOnAndOn(a)
  await pause(2000)
  const leader = await cluster.leader()
  const killedMs = Date.now()
  await leader.kill()
  await cluster.leader()
  await eventually(
    () => write(b),
    ({ told }) => told === 'created',
    LEADS_WITHIN_MS,
  )
  const awayMs = Date.now() - killedMs
  await pause(2000)
  const outcomes = await writing.stop()
  leader.start()
  await requireConverged(outcomes)
  const count = (told: Outcome['told']) => outcomes.filter((one) => one.told === told).length
  context.diagnostic(
    `changes refused for ${awayMs} ms; ${count('created')} made, ${count('configuration_unconfirmed')} unconfirmed, ${count('configuration_unavailable')} refused`,
  )
})

test('without a majority changes are refused, no region sees one, and all goes on when it is back', { skip }, async (context) => {
  await cluster.complete(2)
  const leader = await cluster.leader()
  const others = cluster.members.filter((member) => member !== leader)
  const before = await namesIn(b.pool)
  for (const other of others) await other.kill()
  const outcomes: Outcome[] = []
  for (let i = 0; i < 4; i++) outcomes.push(await write(a))
  assert.ok(outcomes.every(({ told }) => told !== 'created'))
  assert.equal(outcomes.at(-1)!.told, 'configuration_unavailable')
  assert.deepEqual(await namesIn(b.pool), before)
  context.diagnostic(outcomes.map(({ told, tookMs }) => `${told} after ${tookMs} ms`).join('; '))
  for (const other of others) other.start()
  await requireConverged(outcomes)
})
