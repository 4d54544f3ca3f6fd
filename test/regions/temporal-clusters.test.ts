import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Client } from '@temporalio/client'
import { defineSearchAttributeKey, SearchAttributeType, TypedSearchAttributes } from '@temporalio/common'
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker, type WorkflowBundle } from '@temporalio/worker'
import { prepareNamespace } from '../../cli/embedded/namespace.ts'
import { describeReplication, ensureGlobalNamespace, failOver, handOver, waitForNamespace } from '../../cli/regions/global-namespace.ts'
import { pairClusters, remoteClusters, type Cluster } from '../../cli/regions/temporal-clusters.ts'
import { SEARCH_ATTRIBUTES } from '../../domain/names.ts'
import { eventually } from '../support/eventually.ts'
import { createTestClusters, NO_TEMPORAL_SERVER, temporalServerPrograms, type TestClusters } from '../support/temporal-server.ts'

const NAMESPACE = 'tidings-us-east'
const QUEUE = 'sleepers'
const SLEEP_MS = 12_000
/** Answered by the cluster that is asked, not by the active one. */
const HERE = { 'xdc-redirection': 'false' }
const MESSAGE_IDS = Array.from({ length: 100 }, (_, i) => `msg_${String(i).padStart(27, '0')}`)

// A cluster that was killed is told of by every worker that had it.
const logger = new DefaultLogger('ERROR', () => undefined)

const programs = await temporalServerPrograms()
const skip = programs === undefined ? NO_TEMPORAL_SERVER : false

let clusters: TestClusters
let east: Cluster
let west: Cluster
let bundle: WorkflowBundle
const stops: (() => Promise<void>)[] = []

before(async () => {
  if (programs === undefined) return
  Runtime.install({ logger })
  clusters = await createTestClusters(programs, ['us-east', 'us-west'])
  const workflowsPath = fileURLToPath(new URL('./sleeper.ts', import.meta.url))
  await Promise.all([
    clusters.start('us-east'),
    clusters.start('us-west'),
    bundleWorkflowCode({ workflowsPath, logger }).then((made) => (bundle = made)),
  ])
  east = await clusters.open('us-east')
  west = await clusters.open('us-west')
})

after(async () => {
  for (const stop of stops.reverse()) await stop()
  if (programs !== undefined) await clusters.stop()
})

const clientOf = ({ connection }: Cluster) => new Client({ connection, namespace: NAMESPACE })

/** What a cluster itself has of a workflow; undefined: nothing. */
async function statusAt(cluster: Cluster, workflowId: string): Promise<string | undefined> {
  try {
    return await cluster.connection.withMetadata(
      HERE,
      async () => (await clientOf(cluster).workflow.getHandle(workflowId).describe()).status.name,
    )
  } catch (error) {
    if ((error as Error).name === 'WorkflowNotFoundError') return undefined
    throw error
  }
}

async function startWorker(cluster: Cluster): Promise<() => Promise<void>> {
  const connection = await NativeConnection.connect({ address: cluster.peerAddress })
  const worker = await Worker.create({ connection, namespace: NAMESPACE, taskQueue: QUEUE, workflowBundle: bundle })
  const running = worker.run()
  let stopped: Promise<void> | undefined
  const stop = () =>
    (stopped ??= (async () => {
      worker.shutdown()
      await running
      await connection.close()
    })())
  stops.push(stop)
  return stop
}

test('clusters that were told of each other know each other', { skip }, async () => {
  await pairClusters(east, west)
  await pairClusters(east, west)
  const known = { isConnected: true, isReplicating: true }
  assert.deepEqual(await remoteClusters(east), [{ name: 'us-west', address: west.peerAddress, ...known }])
  assert.deepEqual(await remoteClusters(west), [{ name: 'us-east', address: east.peerAddress, ...known }])
  await assert.rejects(pairClusters(east, { ...west, initialFailoverVersion: 1 }), {
    code: 'clusters_incompatible',
    message: /TEMPORAL_CLUSTER_VERSION/,
  })
})

test('a namespace that is made at one is at the other', { skip }, async (t) => {
  const wanted = { namespace: NAMESPACE, clusters: ['us-east', 'us-west'], activeCluster: 'us-east' }
  const since = performance.now()
  await ensureGlobalNamespace(east, wanted)
  const madeMs = performance.now() - since
  await waitForNamespace(west, NAMESPACE)
  t.diagnostic(`made in ${Math.round(madeMs)} ms, at the peer after ${Math.round(performance.now() - since - madeMs)} ms`)
  await ensureGlobalNamespace(east, wanted)
  const columns: unknown[] = []
  for (const cluster of [east, west]) {
    const { isGlobal, activeCluster, clusters, failoverVersion } = await describeReplication(cluster, NAMESPACE)
    assert.deepEqual(
      { isGlobal, activeCluster, clusters, failoverVersion },
      { isGlobal: true, activeCluster: 'us-east', clusters: wanted.clusters, failoverVersion: 1 },
    )
    const { config } = await cluster.connection.workflowService.describeNamespace({ namespace: NAMESPACE })
    assert.equal(Number(config?.workflowExecutionRetentionTtl?.seconds), 7 * 86_400)
    columns.push(config?.customSearchAttributeAliases)
  }
  assert.deepEqual(columns[0], columns[1], 'histories name the columns')
})

const messageIds = defineSearchAttributeKey(SEARCH_ATTRIBUTES.messages, SearchAttributeType.KEYWORD_LIST)

function startSleeper(cluster: Cluster, workflowId: string, sleepMs: number, ids: readonly string[] = []) {
  return clientOf(cluster).workflow.start('sleeper', {
    workflowId,
    taskQueue: QUEUE,
    args: [{ sleepMs }],
    typedSearchAttributes: new TypedSearchAttributes([{ key: messageIds, value: [...ids] }]),
  })
}

/** Ids of the workflows that a cluster itself finds by a message. */
async function foundAt(cluster: Cluster, messageId: string): Promise<string[]> {
  return cluster.connection.withMetadata(HERE, async () => {
    const found: string[] = []
    for await (const { workflowId } of clientOf(cluster).workflow.list({ query: `${SEARCH_ATTRIBUTES.messages} = '${messageId}'` })) {
      found.push(workflowId)
    }
    return found
  })
}

/** The version of a workflow's first event, which says where it was started. */
async function startedAt(cluster: Cluster, workflowId: string): Promise<string> {
  const { events } = await clientOf(cluster).workflow.getHandle(workflowId).fetchHistory()
  const version = Number(events?.[0]?.version) % cluster.failoverVersionIncrement
  return version === east.initialFailoverVersion ? 'us-east' : 'us-west'
}

let stopEasternWorker: () => Promise<void>
let dueMs = 0

test('a workflow that is started at the active one is at the other, found by its search attributes', { skip }, async (t) => {
  stopEasternWorker = await startWorker(east)
  await startSleeper(east, 'sleeper/1', SLEEP_MS, MESSAGE_IDS)
  dueMs = Date.now() + SLEEP_MS
  const since = performance.now()
  await eventually(
    () => statusAt(west, 'sleeper/1'),
    (status) => status === 'RUNNING',
  )
  t.diagnostic(`replicated in ${Math.round(performance.now() - since)} ms`)
  for (const cluster of [east, west]) {
    for (const id of [MESSAGE_IDS[0]!, MESSAGE_IDS[99]!]) {
      await eventually(
        () => foundAt(cluster, id),
        (found) => found.includes('sleeper/1'),
      )
    }
  }
})

test('a start that reaches the passive one is made at the active one', { skip }, async () => {
  const handle = await startSleeper(west, 'forwarded/1', 1)
  await handle.result()
  assert.equal(await statusAt(east, 'forwarded/1'), 'COMPLETED')
  assert.equal(await startedAt(west, 'forwarded/1'), 'us-east')
})

test('after kill -9 of the active one and a failover, a sleeping workflow ends at the other when it should', { skip }, async (t) => {
  await clusters.kill('us-east')
  await stopEasternWorker()
  const since = performance.now()
  const { activeCluster, failoverVersion } = await failOver(west, NAMESPACE)
  assert.deepEqual({ activeCluster, failoverVersion }, { activeCluster: 'us-west', failoverVersion: 2 })
  assert.equal((await failOver(west, NAMESPACE)).failoverVersion, 2)
  await startWorker(west)
  const handle = await startSleeper(west, 'after/1', 1)
  await handle.result()
  t.diagnostic(`a start is carried out ${Math.round(performance.now() - since)} ms after the failover was asked for`)
  assert.equal(await startedAt(west, 'after/1'), 'us-west')
  assert.deepEqual(await clientOf(west).workflow.getHandle('sleeper/1').result(), [])
  const endedMs = (await clientOf(west).workflow.getHandle('sleeper/1').describe()).closeTime!.getTime()
  t.diagnostic(`the sleeping workflow ended ${endedMs - dueMs} ms after it was due`)
  assert.ok(endedMs >= dueMs - SLEEP_MS / 10, 'it slept its time')
})

test(
  'one that returns is passive and gets what it missed; handed back, the namespace is active there with all its workflows',
  { skip },
  async (t) => {
    const since = performance.now()
    await clusters.start('us-east')
    east = await clusters.open('us-east')
    await eventually(
      () => describeReplication(east, NAMESPACE),
      ({ activeCluster }) => activeCluster === 'us-west',
    )
    for (const workflowId of ['sleeper/1', 'after/1']) {
      await eventually(
        () => statusAt(east, workflowId),
        (status) => status === 'COMPLETED',
        30_000,
      )
    }
    t.diagnostic(`it has caught up ${Math.round(performance.now() - since)} ms after its start`)
    const handle = await startSleeper(west, 'across/1', 5000)
    await handle.signal('note', 'kept')
    const asked = performance.now()
    const { activeCluster, failoverVersion } = await handOver(west, east, NAMESPACE)
    t.diagnostic(`handed over in ${Math.round(performance.now() - asked)} ms`)
    assert.deepEqual({ activeCluster, failoverVersion }, { activeCluster: 'us-east', failoverVersion: 101 })
    await startWorker(east)
    assert.deepEqual(await clientOf(east).workflow.getHandle('across/1').result(), ['kept'])
    assert.equal(await startedAt(east, 'across/1'), 'us-west')
    await (await startSleeper(west, 'back/1', 1)).result()
    assert.equal(await startedAt(east, 'back/1'), 'us-east')
  },
)

test('a namespace of one cluster cannot be failed over; made global it can', { skip }, async () => {
  const namespace = 'tidings-us-west'
  await prepareNamespace(west.peerAddress, namespace)
  await assert.rejects(failOver(west, namespace), { code: 'failover_failed', message: /not replicated/ })
  await ensureGlobalNamespace(west, { namespace, clusters: ['us-west', 'us-east'], activeCluster: 'us-west' })
  await waitForNamespace(east, namespace)
  assert.equal((await failOver(east, namespace)).activeCluster, 'us-east')
})
