import { isGrpcServiceError, WorkflowExecutionAlreadyStartedError, type Client } from '@temporalio/client'
import { defineSearchAttributeKey, SearchAttributeType, TypedSearchAttributes } from '@temporalio/common'
import type { BegunAttempts } from '../activities/begun-attempts.ts'
import type { FanOutInput } from '../domain/fan-out.ts'
import { LIMITS } from '../domain/limits.ts'
import { FAN_OUT_TASK_QUEUE, fanOutWorkflowId, SEARCH_ATTRIBUTES } from '../domain/names.ts'
import type { OutboxRow } from '../storage/outbox.ts'
import type { PlanFanOut } from './plan-fan-out.ts'

/** @param isNew whether nobody can have tried to start the group before */
export type StartFanOut = (groupId: string, rows: readonly OutboxRow[], isNew: boolean) => Promise<'started' | 'already started'>

const MESSAGES = defineSearchAttributeKey(SEARCH_ATTRIBUTES.messages, SearchAttributeType.KEYWORD_LIST)
const APPLICATIONS = defineSearchAttributeKey(SEARCH_ATTRIBUTES.applications, SearchAttributeType.KEYWORD_LIST)
const EVENT_TYPES = defineSearchAttributeKey(SEARCH_ATTRIBUTES.eventTypes, SearchAttributeType.KEYWORD_LIST)

const START_DEADLINE_MS = 5000
/** So long after a start whose first task went to any process nothing is begun: if it went to another, that would have to ask this one. */
const NOT_EAGER_FOR_MS = 1000

export interface StartFanOutDependencies {
  readonly client: Client
  readonly partitions: number
  /** Where it is allowed the server hands the first task, with the start, to a worker of this process that polls the fan-out queue. */
  readonly eager: { readonly allowed: boolean }
  /** Told when the start has brought its first task along: no other process can have executed anything of the group. */
  readonly onStart: (groupId: string) => void
  /** Where the deliveries of the group go, if that is known and they are few. */
  readonly plan: PlanFanOut
  /** Begins what is planned while Temporal starts the fan-out. */
  readonly begin: BegunAttempts['begin']
  /** Names this process to those who ask for what it has begun. */
  readonly processId: string
}

/** Starts the fan-out of one recorded group; starting it again has no effect. */
export function createStartFanOut(deps: StartFanOutDependencies): StartFanOut {
  const { client } = deps
  let notEagerAtMs = -Infinity
  const mayBegin = () => deps.eager.allowed && performance.now() - notEagerAtMs > NOT_EAGER_FOR_MS
  return async (groupId, rows, isNew) => {
    const first = rows[0]!
    // Where routes cannot be read now, an activity finds them when they can.
    const planned = await deps.plan(rows).catch(() => undefined)
    // A group of several that Temporal refuses is cut, and its parts are groups of their own.
    const begun = isNew && rows.length === 1 && planned !== undefined && mayBegin() && deps.begin(groupId, planned)
    const input: FanOutInput = {
      groupId,
      messageIds: rows.map((row) => row.messageId),
      ...(first.endpointId === null ? {} : { endpointId: first.endpointId }),
      trigger: first.trigger,
      retried: first.retried,
      partitions: deps.partitions,
      ...(planned === undefined ? {} : { planned }),
      ...(begun ? { begunBy: deps.processId } : {}),
    }
    const applications = [...new Set(rows.map((row) => row.appId))]
    try {
      const { eagerlyStarted } = await client.connection.withDeadline(Date.now() + START_DEADLINE_MS, () =>
        client.workflow.start('fanOut', {
          workflowId: fanOutWorkflowId(groupId),
          taskQueue: FAN_OUT_TASK_QUEUE,
          args: [input],
          workflowIdReusePolicy: 'REJECT_DUPLICATE',
          requestEagerStart: deps.eager.allowed,
          typedSearchAttributes: new TypedSearchAttributes([
            { key: MESSAGES, value: input.messageIds as string[] },
            { key: APPLICATIONS, value: applications },
            { key: EVENT_TYPES, value: fitting(rows.map((row) => row.eventType)) },
          ]),
          staticSummary: summarise(rows.length, applications),
        }),
      )
      if (!eagerlyStarted) notEagerAtMs = performance.now()
      else if (isNew) deps.onStart(groupId)
      return 'started'
    } catch (error) {
      if (error instanceof WorkflowExecutionAlreadyStartedError) return 'already started'
      throw error
    }
  }
}

// gRPC's INVALID_ARGUMENT: what was asked is wrong, and stays wrong however often it is asked.
const INVALID_ARGUMENT = 3

/** Whether the server was reached and will never start this: a limit that its operator has set is below what is in it. */
export function isRefusal(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined
  return [error, cause].some((one) => isGrpcServiceError(one) && Number(one.code) === INVALID_ARGUMENT)
}

function summarise(events: number, applications: readonly string[]): string {
  const of = applications.length === 1 ? applications[0]! : `${applications.length} applications`
  return events === 1 ? `1 event of ${of}` : `${events} events of ${of}`
}

/** Distinct names, as many as the search attribute holds. */
function fitting(names: readonly string[]): string[] {
  const kept: string[] = []
  let bytes = 0
  for (const name of new Set(names)) {
    bytes += name.length + 3
    if (bytes > LIMITS.eventTypesAttributeMaxBytes) break
    kept.push(name)
  }
  return kept
}
