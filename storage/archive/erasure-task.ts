import { manifestKeyOf, mayHave, type ArchiveErasure, type ArchivePart } from '../../domain/archive.ts'
import type { TaskStep } from '../../domain/task.ts'
import { advanceTask } from '../background-tasks.ts'
import { eraseSome, type ErasureInput, type ErasureOptions } from '../erasure.ts'
import { inTransaction, type Pool } from '../pool.ts'
import type { ErasedApplication } from './erase.ts'
import { listParts, readManifest } from './manifests.ts'
import type { ObjectStore } from './object-store.ts'

/** An archive that applications are erased from. */
export interface ArchiveEraser {
  readonly store: ObjectStore
  /** As `eraseFromPart` of storage/archive/erase.ts. */
  eraseFromPart(part: ArchivePart, erased: ErasedApplication): Promise<ArchiveErasure | undefined>
}

/** A step goes on with further parts of the archive this long. */
const STEP_MS = 4000

/**
 * Some of an erasure where there is an archive: first the database, as without one, then each part of the archive, then the last
 * pass of the database. What the archive had of the application is counted in the task's data.
 * @throws {ArchiveError} `part_busy` and what the store throws: the step is repeated, and goes on where it was
 */
export async function eraseSomeEverywhere(
  pool: Pool,
  taskId: string,
  input: ErasureInput,
  { archive, ...options }: ErasureOptions & { readonly archive: ArchiveEraser },
): Promise<TaskStep> {
  const { rows } = await pool.query<{ after: string | null; erased: boolean | null }>(
    `SELECT input ->> 'archiveAfter' AS after, (input ->> 'archiveErased')::boolean AS erased FROM background_task WHERE id = $1`,
    [taskId],
  )
  const { after = null, erased = null } = rows[0] ?? {}
  if (erased === true) return eraseSome(pool, taskId, input, options)
  const step = await eraseSome(pool, taskId, input, { ...options, finishes: false })
  if (!step.done && step.waitMs === undefined) return step
  await eraseParts(pool, archive, { taskId, appId: input.applicationId }, after ?? '')
  return { done: false }
}

/** @param after the key of the manifest that was done last */
async function eraseParts(pool: Pool, archive: ArchiveEraser, erased: ErasedApplication, after: string): Promise<void> {
  const untilMs = Date.now() + STEP_MS
  for await (const part of listParts(archive.store)) {
    const key = manifestKeyOf(part)
    if (key <= after) continue
    const receipt = (await concerns(archive.store, part, erased)) ? await archive.eraseFromPart(part, erased) : undefined
    // In one transaction: what is counted is not counted again.
    if (receipt !== undefined && receipt.replaced.length > 0) {
      const { rows, objectsRewritten, objectsDeleted } = receipt
      const counts = { archiveRows: rows, archiveObjectsRewritten: objectsRewritten, archiveObjectsDeleted: objectsDeleted }
      await remember(pool, erased.taskId, { archiveAfter: key }, counts)
    }
    if (Date.now() > untilMs) return remember(pool, erased.taskId, { archiveAfter: key }, {})
  }
  await remember(pool, erased.taskId, { archiveErased: true }, { archiveRows: 0, archiveObjectsRewritten: 0, archiveObjectsDeleted: 0 })
}

/** Whether a part may have the application, or had it before this erasure. */
async function concerns(store: ObjectStore, part: ArchivePart, { appId, taskId }: ErasedApplication): Promise<boolean> {
  const manifest = await readManifest(store, part)
  if (manifest === undefined) return false
  return manifest.objects.some((object) => mayHave(object, appId)) || manifest.erasures.some((erasure) => erasure.taskId === taskId)
}

async function remember(pool: Pool, taskId: string, place: object, counts: Readonly<Record<string, number>>): Promise<void> {
  await inTransaction(pool, async (client) => {
    await client.query('UPDATE background_task SET input = input || $2 WHERE id = $1', [taskId, JSON.stringify(place)])
    await advanceTask(client, taskId, counts)
  })
}
