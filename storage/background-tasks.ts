import { createParameters, cutPage, pageClause, type Page, type PageOf } from './page.ts'
import type { Queryable } from './pool.ts'

export const TASK_STATUSES = ['running', 'finished', 'failed', 'cancelled'] as const
export type TaskStatus = (typeof TASK_STATUSES)[number]

/** Names of background tasks, as the Svix API has them; the last three are Tidings' own. */
export const TASK_NAMES = [
  'endpoint.recover',
  'endpoint.replay',
  'endpoint.bulk-replay',
  'message.broadcast',
  'dead-letter.redrive',
  'application.erase',
  'deliveries.reconcile',
] as const
export type TaskName = (typeof TASK_NAMES)[number]

/** Work that outlives the request that asked for it. */
export interface BackgroundTask {
  /** `qtask_…` */
  readonly id: string
  readonly orgId: string
  /** Null: of the whole organisation. */
  readonly appId: string | null
  readonly task: TaskName
  readonly status: TaskStatus
  /** Progress, for whoever asked for it: counts and ids, never payloads. */
  readonly data: Readonly<Record<string, unknown>>
  readonly createdAt: Date
  readonly updatedAt: Date
}

/** What is needed to carry a task out. */
export interface TaskRequest {
  readonly id: string
  readonly task: TaskName
  /** In plain JSON: ids and filters. */
  readonly input: object
}

export interface NewBackgroundTask extends TaskRequest {
  readonly orgId: string
  readonly appId: string | null
  /** Progress so far. */
  readonly data?: object
}

/** Whose tasks, and which of them. */
export interface TaskFilter {
  readonly orgId: string
  /** Only this application's, for its token. */
  readonly appId?: string | undefined
  readonly status?: TaskStatus | undefined
  readonly task?: TaskName | undefined
}

const COLUMNS = `id, org_id AS "orgId", app_id AS "appId", task, status, data, created_at AS "createdAt", updated_at AS "updatedAt"`

/** Registers a task as running. Its workflow is started after the commit, by the caller or by the sweep. */
export async function insertTask(db: Queryable, task: NewBackgroundTask): Promise<BackgroundTask> {
  const { rows } = await db.query<BackgroundTask>(
    `INSERT INTO background_task (id, org_id, app_id, task, input, data) VALUES ($1, $2, $3, $4, $5, $6) RETURNING ${COLUMNS}`,
    [task.id, task.orgId, task.appId, task.task, JSON.stringify(task.input), JSON.stringify(task.data ?? {})],
  )
  return rows[0]!
}

/**
 * Adds to the counts of a running task's progress, and ends it where `status` says so. A task that has ended stays as it is.
 * Call it in the transaction that does what is counted.
 */
export async function advanceTask(
  db: Queryable,
  id: string,
  counts: Readonly<Record<string, number>>,
  status: TaskStatus = 'running',
): Promise<void> {
  await db.query({
    name: 'task-advance',
    text: `UPDATE background_task SET status = $3, updated_at = now(), data = data || coalesce(
        (SELECT jsonb_object_agg(key, coalesce((data ->> key)::bigint, 0) + value::bigint) FROM jsonb_each_text($2)), '{}')
      WHERE id = $1 AND status = 'running'`,
    values: [id, JSON.stringify(counts), status],
  })
}

/** @returns the organisation's task (of the application where one is given), undefined where there is none */
export async function findTask(db: Queryable, id: string, scope: Pick<TaskFilter, 'orgId' | 'appId'>): Promise<BackgroundTask | undefined> {
  const { rows } = await db.query<BackgroundTask>(
    `SELECT ${COLUMNS} FROM background_task WHERE id = $1 AND org_id = $2 AND ($3::text IS NULL OR app_id = $3)`,
    [id, scope.orgId, scope.appId],
  )
  return rows[0]
}

export async function listTasks(db: Queryable, filter: TaskFilter, page: Page): Promise<PageOf<BackgroundTask>> {
  const parameters = createParameters()
  const add = parameters.add
  const where = [`org_id = ${add(filter.orgId)}`]
  if (filter.appId !== undefined) where.push(`app_id = ${add(filter.appId)}`)
  if (filter.status !== undefined) where.push(`status = ${add(filter.status)}`)
  if (filter.task !== undefined) where.push(`task = ${add(filter.task)}`)
  const { rows } = await db.query<BackgroundTask>(
    `SELECT ${COLUMNS} FROM background_task WHERE ${where.join(' AND ')} AND ${pageClause(page, 'id', parameters)}`,
    parameters.values,
  )
  return cutPage(rows, page)
}

export async function markTaskStarted(db: Queryable, id: string): Promise<void> {
  await db.query('UPDATE background_task SET started = true WHERE id = $1', [id])
}

/** Running tasks older than `minAgeMs` whose workflow nobody is known to have started: their process died, or Temporal was away. */
export async function unstartedTasks(db: Queryable, minAgeMs: number, limit: number): Promise<TaskRequest[]> {
  const { rows } = await db.query<TaskRequest>({
    name: 'tasks-unstarted',
    text: `SELECT id, task, input FROM background_task
      WHERE NOT started AND status = 'running' AND created_at < now() - $1 * interval '1 ms' ORDER BY created_at LIMIT $2`,
    values: [minAgeMs, limit],
  })
  return rows
}

/** What the steps of a task work from; undefined where there is no such task. */
export async function readTaskInput(db: Queryable, id: string): Promise<TaskRequest | undefined> {
  const { rows } = await db.query<TaskRequest>('SELECT id, task, input FROM background_task WHERE id = $1', [id])
  return rows[0]
}
