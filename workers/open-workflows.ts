import type { Client, WorkflowExecutionInfo } from '@temporalio/client'
import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common'
import type { OpenWorkflows } from '../activities/reconcile.ts'
import { SEARCH_ATTRIBUTES } from '../domain/names.ts'

const MESSAGES = defineSearchAttributeKey(SEARCH_ATTRIBUTES.messages, SearchAttributeType.KEYWORD_LIST)
// A query is at most some kilobytes long.
const NAMES_PER_QUERY = 50
const LISTED_PER_PAGE = 200
const ANSWER_WITHIN_MS = 20_000

/**
 * Asks Temporal's visibility store, fifty at a time: it is behind what has begun, but answers for many in one call. To describe
 * each workflow would be exact, at a call each, and a message does not tell which group it is in.
 */
export function createOpenWorkflows(client: Client): OpenWorkflows {
  const openWhere = async (condition: (names: string) => string, names: readonly string[], found: (one: WorkflowExecutionInfo) => void) => {
    for (let from = 0; from < names.length; from += NAMES_PER_QUERY) {
      const quoted = names.slice(from, from + NAMES_PER_QUERY).map((name) => `'${name.replaceAll("'", '')}'`)
      const query = `ExecutionStatus = 'Running' AND ${condition(quoted.join(', '))}`
      await client.withDeadline(Date.now() + ANSWER_WITHIN_MS, async () => {
        for await (const one of client.workflow.list({ query, pageSize: LISTED_PER_PAGE })) found(one)
      })
    }
  }
  return {
    async carrying(messageIds) {
      const carried = new Set<string>()
      const condition = (names: string) => `WorkflowType = 'fanOut' AND ${SEARCH_ATTRIBUTES.messages} IN (${names})`
      await openWhere(condition, messageIds, (one) => {
        for (const id of one.typedSearchAttributes.get(MESSAGES) ?? []) carried.add(id)
      })
      return carried
    },
    async running(workflowIds) {
      const running = new Set<string>()
      await openWhere(
        (names) => `WorkflowId IN (${names})`,
        workflowIds,
        (one) => running.add(one.workflowId),
      )
      return running
    },
  }
}
