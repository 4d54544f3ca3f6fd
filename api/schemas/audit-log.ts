import { z } from 'zod'
import type { AuditEntry } from '../../storage/audit-log.ts'
import { listOf, shownId, shownTime } from './replies.ts'

export const auditLogList = listOf(
  'AuditLogEntryOut',
  z
    .object({
      id: shownId('audit'),
      appId: shownId('app').nullable().meta({ description: 'Null for a change of the organisation itself' }),
      actor: z.string().meta({ description: "The token's subject; `tidings` where the service changed something by itself" }),
      tokenId: z.string().nullable().meta({ description: "The token's `jti`" }),
      operation: z.string().meta({ description: 'What was done', example: 'endpoint.updated' }),
      objectId: z.string(),
      fields: z.array(z.string()).meta({ description: 'Names of the fields that changed; values are not kept' }),
      timestamp: shownTime,
    })
    .meta({ id: 'AuditLogEntryOut' }),
)

export function showAuditEntry(entry: AuditEntry) {
  const { id, appId, actor, tokenId, operation, objectId, fields } = entry
  return { id, appId, actor, tokenId, operation, objectId, fields, timestamp: entry.createdAt.toISOString() }
}
