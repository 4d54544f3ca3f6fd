import { WorkflowNotFoundError } from '@temporalio/client'
import { fanOutWorkflowId } from '../../domain/names.ts'
import { createPool } from '../../storage/pool.ts'
import { createCalls } from '../support/calls.ts'
import { eventually } from '../support/eventually.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { copyConfiguration } from '../support/regions.ts'
import { startTestService } from '../support/service.ts'
import { ended, ENVIRONMENT, publish, type Scenario } from './scenarios.ts'

const FAR = 'far'

/** To a region that is away at first; to one that answers; and to one that may not have what is for it. */
export const elsewhere: Scenario = async (stage) => {
  const { app: appId } = await createCalls(stage.service).endpointWith(`${stage.receiver.url}/far`, { region: FAR })
  await stage.service.svix.endpoint.create(appId, { url: `${stage.receiver.url}/near` })
  const arrived = (messageId: string) =>
    stage.receiver.waitFor(2, { matches: (one) => one.headers['webhook-id'] === messageId, timeoutMs: 60_000 })
  const [first] = await publish(stage, appId)
  const fanOut = stage.client.workflow.getHandle(fanOutWorkflowId(first!))
  const failed = async () => {
    try {
      return (await fanOut.describe()).raw.pendingActivities?.[0]?.lastFailure ?? undefined
    } catch (error) {
      // An accepted message is started a moment after its publish is answered.
      if (error instanceof WorkflowNotFoundError) return undefined
      throw error
    }
  }
  await eventually(failed, (failure) => failure !== undefined)
  const database = await createTestDatabase()
  const farPool = createPool(database.url, 1)
  await copyConfiguration(stage.pool, farPool)
  const far = await startTestService({ env: { ...ENVIRONMENT, ...stage.regions.envOf(FAR) }, database })
  try {
    await arrived(first!)
    const [second] = await publish(stage, appId)
    await arrived(second!)
    await farPool.query(`INSERT INTO application_zone (id, org_id, zone, version) VALUES ($1, 'org_1', 'another', 1)`, [appId])
    const [third] = await publish(stage, appId)
    await arrived(third!)
    return await ended(
      stage,
      [first!, second!, third!].map((id) => fanOutWorkflowId(id)),
    )
  } finally {
    await farPool.end()
    await far.stop()
  }
}
