import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { Client, Connection } from '@temporalio/client'
import { mailboxWorkflowId } from '../../domain/names.ts'
import { spawnScript } from '../support/processes.ts'
import { eventually } from './eventually.ts'
import { publishDuring } from './scenario.ts'
import { setStage, type Stage } from './stage.ts'

const DRAINED_WITHIN_S = 150
const WITHIN_MS = 60_000
const EVENTS_PER_S = 40
const FAR_MS = 86_400_000

let stage: Stage
let connection: Connection
let client: Client

before(async () => {
  // As a server does within some minutes, in seconds.
  const soon = { 'matching.wv.VersionDrainageStatusVisibilityGracePeriod': 2, 'matching.wv.VersionDrainageStatusRefreshInterval': 1 }
  stage = await setStage({ dynamicConfig: soon })
  connection = await Connection.connect({ address: stage.temporal.address })
  client = new Client({ connection, namespace: stage.temporal.namespace })
})

after(async () => {
  await connection?.close()
  await stage?.close()
})

interface Shown {
  readonly currentBuildId?: string
  readonly versions: readonly { readonly buildId: string; readonly status: string }[]
}

/** What `npm run versions` shows after it has done what it was asked for. */
async function versions(...args: string[]): Promise<Shown> {
  const { address, namespace } = stage.temporal
  const env = { TEMPORAL_ADDRESS: address, TEMPORAL_NAMESPACE: namespace }
  const command = spawnScript('cli/versions.ts', [...args, '--json'], { env })
  assert.equal(await command.ended, 0, command.stderr())
  return JSON.parse(command.stdout()) as Shown
}

const startVersion = (buildId: string) =>
  Promise.all((['dispatcher', 'delivery'] as const).map((role) => stage.startWorker(role, { TIDINGS_BUILD_ID: buildId })))

const statusOf = (shown: Shown, buildId: string) => shown.versions.find((one) => one.buildId === buildId)?.status

/** The version that a workflow's last task was done by. */
async function versionOf(workflowId: string): Promise<string | undefined> {
  const { raw } = await client.workflow.getHandle(workflowId).describe()
  return raw.workflowExecutionInfo?.versioningInfo?.deploymentVersion?.buildId ?? undefined
}

async function countOf(query: string): Promise<number> {
  return (await client.workflow.count(query)).count
}

test('a rolling upgrade under load: the old version is drained and stopped, nothing is lost and nothing sent twice', async (t) => {
  const [old] = await Promise.all([startVersion('a'), stage.startApi()])
  assert.equal((await versions('--current', 'a')).currentBuildId, 'a')
  const outcome = await publishDuring(t, stage, EVENTS_PER_S, async ({ targets, publishing, seconds }) => {
    const mailbox = mailboxWorkflowId(targets.failing)
    await eventually({ what: 'the mailbox at version a', withinMs: WITHIN_MS }, async () => (await versionOf(mailbox)) === 'a')
    await startVersion('b')
    t.diagnostic(`version b runs at ${seconds()}`)
    const shown = await versions('--current', 'b')
    assert.deepEqual([shown.currentBuildId, statusOf(shown, 'a')], ['b', 'draining'])
    // What has lived long goes on with its next task at the new version.
    await client.workflow.getHandle(mailbox).signal('wake', { wakeAtMs: Date.now() + FAR_MS })
    await eventually({ what: 'the mailbox at version b', withinMs: WITHIN_MS }, async () => (await versionOf(mailbox)) === 'b')
    assert.equal(statusOf(await versions('--drained', 'a', '--within', String(DRAINED_WITHIN_S)), 'a'), 'drained')
    t.diagnostic(`version a is drained at ${seconds()}`)
    assert.deepEqual(await Promise.all(old.map((worker) => stage.end(worker, 'SIGTERM'))), [0, 0])
    // And goes on without the old one.
    const accepted = publishing.count() + EVENTS_PER_S
    await eventually({ what: 'more events', withinMs: WITHIN_MS }, () => publishing.count() >= accepted)
  })
  assert.equal(outcome.report.failedTries, 0)
  assert.deepEqual([...outcome.account.duplicates], [])
  assert.equal(outcome.account.unrecorded, 0)
  const byA = await countOf(`WorkflowType = 'fanOut' AND TemporalWorkerDeploymentVersion = 'tidings:a'`)
  const byB = await countOf(`WorkflowType = 'fanOut' AND TemporalWorkerDeploymentVersion = 'tidings:b'`)
  t.diagnostic(`fan-outs: ${byA} by the old version, ${byB} by the new one`)
  assert.ok(byA > 0 && byB > 0)
  assert.equal(await countOf(`WorkflowType = 'fanOut' AND ExecutionStatus != 'Completed'`), 0)
})
