import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'
import { STATUS_FAIL, STATUS_PENDING, STATUS_SENDING, STATUS_SUCCESS } from '../../domain/outcome.ts'
import { TASK_NAMES, TASK_STATUSES, type BackgroundTask } from '../../storage/background-tasks.ts'
import { STATUS_CODE_CLASSES } from '../parameters.ts'
import { name, names } from './names.ts'
import { listOf, shownId, shownTime } from './replies.ts'
import { time } from './time.ts'

const status = z.enum(TASK_STATUSES).meta({ id: 'BackgroundTaskStatus' })
const task = z.enum(TASK_NAMES).meta({ id: 'BackgroundTaskType' })

const started = { id: shownId('qtask'), status, task, updatedAt: shownTime }
export const recoverOut = z.object(started).meta({ id: 'RecoverOut' })
export const replayOut = z.object(started).meta({ id: 'ReplayOut' })
export const broadcastOut = z.object(started).meta({ id: 'MessageBroadcastOut' })
export const eraseOut = z.object(started).meta({ id: 'EraseOut' })

export const backgroundTaskOut = z
  .object({
    ...started,
    data: z.record(z.string(), z.unknown()).meta({ description: 'Progress: counts of what was done so far' }),
  })
  .meta({ id: 'BackgroundTaskOut' })
export const backgroundTaskList = listOf('BackgroundTaskOut', backgroundTaskOut)

export const recoverIn = z.object({ since: time, until: time.nullish() }).meta({ id: 'RecoverIn' })
export const replayIn = z.object({ since: time, until: time.nullish() }).meta({ id: 'ReplayIn' })

export const bulkReplayIn = z
  .object({
    since: time,
    until: time.nullish(),
    eventTypes: names(1, LIMITS.eventTypesPerEndpoint).nullish(),
    channel: name.nullish(),
    status: z.literal([STATUS_SUCCESS, STATUS_PENDING, STATUS_FAIL, STATUS_SENDING]).nullish(),
    statusCodeClass: z.literal(STATUS_CODE_CLASSES).nullish(),
    tag: z.null().optional().meta({ description: 'Messages have no tags' }),
  })
  .meta({ id: 'BulkReplayIn' })

/** A task as the request that started it is answered. */
export function showStarted(one: Pick<BackgroundTask, 'id' | 'status' | 'task' | 'updatedAt'>) {
  return { id: one.id, status: one.status, task: one.task, updatedAt: one.updatedAt.toISOString() }
}

export function showBackgroundTask(one: BackgroundTask) {
  return { ...showStarted(one), data: one.data }
}
