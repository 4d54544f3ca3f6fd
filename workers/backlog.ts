import type { Client } from '@temporalio/client'
import type { Backlog } from '../activities/autoscale.ts'
import { deliverTaskQueue, FAN_OUT_TASK_QUEUE, LANES } from '../domain/names.ts'
import { partitionsOf } from '../domain/partitions.ts'
import { readPartitionNumbers } from '../storage/partition-numbers.ts'
import type { Pool } from '../storage/pool.ts'

// Of Temporal's API: TASK_QUEUE_TYPE_WORKFLOW and _ACTIVITY.
const WORKFLOW_TASKS = 1
const ACTIVITIES = 2
// Each partition of each lane is asked, a few at a time.
const ASKED_AT_A_TIME = 16

/** @returns what counts the tasks that wait for any worker: fan-outs, and deliveries of all lanes and partitions */
export function createReadBacklog(client: Client, namespace: string, pool: Pool): () => Promise<Backlog> {
  const ask = async (name: string, taskQueueType: number): Promise<Backlog> => {
    const { stats } = await client.workflowService.describeTaskQueue({
      namespace,
      taskQueue: { name },
      taskQueueType,
      reportStats: true,
    })
    const tasks = Number(stats?.approximateBacklogCount ?? 0)
    const { seconds, nanos } = stats?.approximateBacklogAge ?? {}
    return { tasks, oldestMs: tasks === 0 ? 0 : Number(seconds ?? 0) * 1000 + (nanos ?? 0) / 1e6 }
  }
  return async () => {
    const partitions = partitionsOf(await readPartitionNumbers(pool))
    const queues = LANES.flatMap((lane) => partitions.map((partition) => deliverTaskQueue(lane, partition))).values()
    let tasks = 0
    let oldestMs = 0
    const add = (one: Backlog) => {
      tasks += one.tasks
      oldestMs = Math.max(oldestMs, one.oldestMs)
    }
    const askNext = async () => {
      for (const name of queues) add(await ask(name, ACTIVITIES))
    }
    await Promise.all(Array.from({ length: ASKED_AT_A_TIME }, askNext))
    add(await ask(FAN_OUT_TASK_QUEUE, WORKFLOW_TASKS))
    return { tasks, oldestMs }
  }
}
