import { newId } from '../domain/ids.ts'
import { insertTask, type BackgroundTask, type NewBackgroundTask } from '../storage/background-tasks.ts'
import type { ApiDependencies } from './dependencies.ts'

/** Registers a background task and starts its workflow. Once this resolves, no crash keeps the task from being done. */
export async function beginTask(
  deps: Pick<ApiDependencies, 'pool' | 'launchTask' | 'taskId'>,
  wanted: Omit<NewBackgroundTask, 'id'>,
): Promise<BackgroundTask> {
  const request = { ...wanted, id: deps.taskId ?? newId('qtask') }
  const task = await insertTask(deps.pool, request)
  await deps.launchTask(request)
  return task
}
