import type { Client } from '@temporalio/client'
import type { FindFanOut } from '../api/dependencies.ts'
import { SEARCH_ATTRIBUTES } from '../domain/names.ts'

/** Asks Temporal's visibility store, which knows each message of a group by its id. */
export function createFindFanOut(client: Client): FindFanOut {
  return async (messageId) => {
    const query = `WorkflowType = 'fanOut' AND ${SEARCH_ATTRIBUTES.messages} = '${messageId.replaceAll("'", '')}'`
    for await (const { workflowId } of client.workflow.list({ query, pageSize: 1 })) return workflowId
    return undefined
  }
}
