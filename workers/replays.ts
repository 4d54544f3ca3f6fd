import type { Client } from '@temporalio/client'
import type { FindFanOut, Replays } from '../api/dependencies.ts'
import { newId } from '../domain/ids.ts'
import { FAN_OUT_TASK_QUEUE, replayWorkflowId, SEARCH_ATTRIBUTES } from '../domain/names.ts'

export function createReplays(client: Client): Replays {
  return {
    async start(request) {
      const taskId = newId('qtask')
      await client.workflow.start('replay', {
        workflowId: replayWorkflowId(taskId),
        taskQueue: FAN_OUT_TASK_QUEUE,
        args: [{ ...request, taskId }],
        staticSummary: `replay for ${request.endpointId ?? request.applicationId}`,
      })
      return taskId
    },
  }
}

/** Asks Temporal's visibility store, which knows each message of a group by its id. */
export function createFindFanOut(client: Client): FindFanOut {
  return async (messageId) => {
    const query = `WorkflowType = 'fanOut' AND ${SEARCH_ATTRIBUTES.messages} = '${messageId.replaceAll("'", '')}'`
    for await (const { workflowId } of client.workflow.list({ query, pageSize: 1 })) return workflowId
    return undefined
  }
}
