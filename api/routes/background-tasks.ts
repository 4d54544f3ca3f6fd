import { findTask, listTasks, TASK_NAMES, TASK_STATUSES } from '../../storage/background-tasks.ts'
import type { Caller } from '../auth.ts'
import { ElsewhereError } from '../elsewhere.ts'
import { notFound } from '../errors.ts'
import { idsOf, orderedPage } from '../parameters.ts'
import { cursorOf, listReply, readChoice, readPage } from '../query.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { mergeLists } from '../shards.ts'
import { backgroundTaskList, backgroundTaskOut, showBackgroundTask } from '../schemas/background-task.ts'

/** An application's token reaches the tasks of its application alone. */
function scopeOf(caller: Caller) {
  return { orgId: caller.orgId, appId: caller.appId ?? undefined }
}

async function list({ deps, caller, query }: Call): Promise<Reply> {
  const page = readPage(query, { order: 'descending', orderable: true, isCursor: cursorOf('qtask') })
  const filter = { status: readChoice(query, 'status', TASK_STATUSES), task: readChoice(query, 'task', TASK_NAMES) }
  const rows = await listTasks(deps.pool, { ...scopeOf(caller), ...filter }, page)
  return listReply(page, rows, (row) => row.id, showBackgroundTask)
}

async function get({ deps, caller, path }: Call): Promise<Reply> {
  const id = path['task_id'] ?? ''
  const task = cursorOf('qtask')(id) ? await findTask(deps.pool, id, scopeOf(caller)) : undefined
  if (task !== undefined) return { status: 200, json: showBackgroundTask(task) }
  // It may be one of an application that this region does not hold.
  const [first, ...more] = (await deps.regional?.zones.otherZones(caller.orgId)) ?? []
  if (first === undefined) throw notFound()
  throw new ElsewhereError([first, ...more])
}

type Shown = Readonly<Record<string, unknown>>

/** One task that several databases do their parts of: it ends with the last of them, and well if all have. */
function mergeTask(parts: readonly Shown[]): Shown {
  const status = ['running', 'cancelled', 'failed'].find((one) => parts.some((part) => part['status'] === one)) ?? parts[0]!['status']
  const data: Record<string, unknown> = {}
  for (const part of parts) {
    for (const [name, value] of Object.entries(part['data'] as Shown)) {
      const before = data[name]
      data[name] = typeof before === 'number' && typeof value === 'number' ? before + value : value
    }
  }
  const updatedAt = parts
    .map((part) => part['updatedAt'] as string)
    .sort()
    .at(-1)
  return { ...parts[0], status, data, updatedAt }
}

export const backgroundTaskRoutes: RouteTable = {
  '/background-task': {
    get: {
      operationId: 'v1.background-task.list',
      summary: 'List Background Tasks',
      tag: 'Background Task',
      query: {
        ...orderedPage(idsOf('qtask')),
        status: { description: 'Filter the response based on the status', schema: { type: 'string', enum: TASK_STATUSES } },
        task: { description: 'Filter the response based on the type', schema: { type: 'string', enum: TASK_NAMES } },
      },
      replies: { 200: backgroundTaskList },
      access: 'application',
      across: { all: mergeLists(mergeTask) },
      handle: list,
    },
  },
  '/background-task/{task_id}': {
    get: {
      operationId: 'v1.background-task.get',
      summary: 'Get Background Task',
      tag: 'Background Task',
      replies: { 200: backgroundTaskOut },
      access: 'application',
      across: { all: (replies) => ({ status: 200, json: mergeTask(replies.map(({ json }) => json as Shown)) }) },
      handle: get,
    },
  },
}
