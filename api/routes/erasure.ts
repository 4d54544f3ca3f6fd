import { newId } from '../../domain/ids.ts'
import { deleteApplication, findErasableApplication } from '../../storage/applications.ts'
import { findTask } from '../../storage/background-tasks.ts'
import { readEndpointIds } from '../../storage/endpoints.ts'
import { changeConfiguration } from '../change.ts'
import { notFound } from '../errors.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { eraseOut, showStarted } from '../schemas/background-task.ts'
import { nameOf } from '../scope.ts'

/** Deletes an application at once, and its data in the background. */
async function erase(call: Call): Promise<Reply> {
  const { deps, caller, path } = call
  const id = newId('qtask')
  await changeConfiguration(call, async (client, changed, effect) => {
    const application = await findErasableApplication(client, caller.orgId, nameOf(path['app_id']))
    if (application === undefined) throw notFound()
    // A region finds by its endpoints what it has of it, also when another has erased its configuration.
    const known = deps.configuration.shared ? { endpointIds: await readEndpointIds(client, application.id) } : {}
    const resides = application.residency === null ? {} : { residency: application.residency }
    const input = { applicationId: application.id, ...resides, ...known }
    await deleteApplication(client, application.id)
    // The uid is part of what is erased.
    await changed({ operation: 'application.erased', application: { id: application.id, uid: null } })
    await effect({ kind: 'application-erased', task: { id, orgId: caller.orgId, appId: application.id, task: 'application.erase', input } })
  })
  const task = await findTask(deps.pool, id, { orgId: caller.orgId })
  return { status: 202, json: showStarted(task ?? { id, status: 'running', task: 'application.erase', updatedAt: new Date() }) }
}

export const erasureRoutes: RouteTable = {
  '/app/{app_id}/erase': {
    post: {
      operationId: 'v1.application.erase',
      summary: 'Erase Application',
      tag: 'Application',
      description:
        'Deletes an application with its endpoints, messages, attempts and whatever else is stored of it, in the background. ' +
        'Waiting deliveries end. An application that was deleted before is named by its id.',
      replies: { 202: eraseOut },
      access: 'organisation',
      handle: erase,
    },
  },
}
