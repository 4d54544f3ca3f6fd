import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deliverTaskQueue, FAN_OUT_TASK_QUEUE, LANES, type Lane } from '../../domain/names.ts'
import { createPool } from '../../storage/pool.ts'
import { kubernetesProgram, NO_PROGRAM } from '../support/kubernetes-programs.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { deploymentsOf, ofKind, render, valuesOf, type Manifest } from './chart.ts'

interface Trigger {
  readonly type: 'temporal' | 'postgresql'
  readonly name: string
  readonly metricType?: string
  readonly metadata: Readonly<Record<string, string>>
  readonly authenticationRef?: { readonly name: string }
}

interface ScaledObject {
  readonly scaleTargetRef: { readonly name: string }
  readonly minReplicaCount: number
  readonly maxReplicaCount: number
  readonly advanced: { readonly scalingModifiers?: { readonly formula: string; readonly target: string } }
  readonly triggers: readonly Trigger[]
}

const helm = kubernetesProgram('helm')
const skip = helm === undefined ? `helm ${NO_PROGRAM}` : false
const program = helm ?? ''

const scaledObjects = (manifests: readonly Manifest[]) => ofKind(manifests, 'ScaledObject').map(({ spec }) => spec as ScaledObject)
const queuesOf = ({ triggers }: ScaledObject) =>
  triggers.flatMap(({ type, metadata }) => (type === 'temporal' ? [metadata['taskQueue'] ?? ''] : []))
const queuesOfLanes = (lanes: readonly Lane[], partitions: number) =>
  lanes.flatMap((lane) => Array.from({ length: partitions }, (_, partition) => deliverTaskQueue(lane, partition)))

for (const [set, partitions] of [
  ['keda', 4],
  ['everything', 2],
] as const) {
  test(`${set}: KEDA watches every task queue of a worker, and nothing else scales it`, { skip }, async () => {
    const manifests = await render(program, valuesOf(set))
    const workers = deploymentsOf(manifests).filter(({ container }) => container.args[0] === 'cli/worker.ts')
    const scaled = scaledObjects(manifests)
    assert.equal(scaled.length, workers.length)
    for (const { name, replicas, container } of workers) {
      assert.equal(replicas, undefined, name)
      const one = scaled.find(({ scaleTargetRef }) => scaleTargetRef.name === name)
      assert.ok(one, name)
      const lanes = (container.args[container.args.indexOf('--lanes') + 1] ?? '').split(',')
      const served = LANES.filter((lane) => lanes.includes(lane))
      const fanOut = container.args.includes('delivery') ? [] : [FAN_OUT_TASK_QUEUE]
      assert.deepEqual(queuesOf(one).sort(), [...fanOut, ...queuesOfLanes(served, partitions)].sort(), name)
      assert.ok(one.minReplicaCount >= 1 && one.maxReplicaCount >= one.minReplicaCount)
    }
  })

  test(`${set}: names of triggers are distinct, and a formula names exactly them`, { skip }, async () => {
    for (const { triggers, advanced } of scaledObjects(await render(program, valuesOf(set)))) {
      const names = triggers.map(({ name }) => name)
      assert.equal(new Set(names).size, names.length)
      const { formula } = advanced.scalingModifiers ?? { formula: undefined }
      // Where Pods serve the outbox too, KEDA takes what asks for most: rows, seconds and tasks do not add up.
      assert.equal(formula === undefined, names.includes('outbox_age'))
      if (formula !== undefined) assert.deepEqual(formula.split(' + ').sort(), [...names].sort())
    }
  })

  test(`${set}: triggers authenticate with what exists`, { skip }, async () => {
    const manifests = await render(program, valuesOf(set))
    const known = ofKind(manifests, 'TriggerAuthentication').map(({ metadata }) => metadata.name)
    const triggers = scaledObjects(manifests).flatMap((one) => one.triggers)
    for (const { authenticationRef, type } of triggers) {
      assert.equal(authenticationRef !== undefined, type === 'postgresql' || set === 'everything')
      if (authenticationRef !== undefined) assert.ok(known.includes(authenticationRef.name), authenticationRef.name)
    }
  })
}

test('what KEDA asks of Postgres is one number: rows that wait in the outbox, and the age of the oldest', { skip }, async () => {
  const [dispatcher] = scaledObjects(await render(program, valuesOf('keda')))
  const queries = Object.fromEntries(dispatcher!.triggers.map(({ name, metadata }) => [name, metadata['query'] ?? '']))
  const database = await createTestDatabase()
  const pool = createPool(database.url, 1)
  const ask = async (name: string) => {
    const { rows } = await pool.query({ text: queries[name] ?? '', rowMode: 'array' })
    assert.equal(rows.length, 1)
    const [row] = rows as unknown[][]
    assert.equal(row!.length, 1)
    return Number(row![0])
  }
  try {
    assert.deepEqual([await ask('outbox_depth'), await ask('outbox_age')], [0, 0])
    await pool.query(`INSERT INTO outbox (id, message_id, app_id, event_type, created_at, group_id)
      SELECT 'row' || n, 'msg' || n, 'app', 'a.b', now() - n * interval '10 s', CASE WHEN n = 3 THEN 'row3' END FROM generate_series(1, 3) n`)
    assert.equal(await ask('outbox_depth'), 2)
    const age = await ask('outbox_age')
    assert.ok(age >= 30 && age < 90, String(age))
  } finally {
    await pool.end()
    await database.drop()
  }
})
