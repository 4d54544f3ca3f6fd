import { isId, lowestIdAt } from '../../domain/ids.ts'
import { listAuditEntries } from '../../storage/audit-log.ts'
import { idOrUid, idsOf, moment, orderedPage } from '../parameters.ts'
import { cursorOf, pageReply, readPage, readTime } from '../query.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { auditLogList, showAuditEntry } from '../schemas/audit-log.ts'
import { applicationOf, configurationOf } from '../scope.ts'

async function list({ deps, caller, query }: Call): Promise<Reply> {
  const page = readPage(query, { order: 'descending', orderable: true, isCursor: cursorOf('audit') })
  const beforeMs = readTime(query, 'before')
  const afterMs = readTime(query, 'after')
  const name = query.get('application')
  // By its id an application is found that is deleted, too: the log outlives it.
  const configuration = configurationOf(deps, caller, name)
  const appId = name === null || isId('app', name) ? (name ?? undefined) : (await applicationOf(configuration.reads, caller, name)).id
  const filter = {
    orgId: caller.orgId,
    appId,
    beforeId: beforeMs === undefined ? undefined : lowestIdAt('audit', beforeMs),
    afterId: afterMs === undefined ? undefined : lowestIdAt('audit', afterMs),
  }
  const rows = await configuration.list(page, (db) => listAuditEntries(db, filter, page))
  return { status: 200, json: pageReply(rows, (row) => row.id, showAuditEntry) }
}

export const auditLogRoutes: RouteTable = {
  '/audit-log': {
    get: {
      operationId: 'v1.audit-log.list',
      summary: 'List Audit Log',
      tag: 'Audit Log',
      description: 'Changes of the configuration, newest first: who changed what, never to which value.',
      query: {
        ...orderedPage(idsOf('audit')),
        application: idOrUid('Only changes of this application and its endpoints'),
        before: moment('Only include changes made before a certain date'),
        after: moment('Only include changes made after a certain date'),
      },
      replies: { 200: auditLogList },
      access: 'organisation',
      handle: list,
    },
  },
}
