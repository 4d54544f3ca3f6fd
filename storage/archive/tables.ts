import type { ArchiveTable } from '../../domain/archive.ts'
import { LIMITS } from '../../domain/limits.ts'
import { STATUS_SUCCESS } from '../../domain/outcome.ts'

/** Of the columns below; an older object lacks columns, which are null when it is restored. */
export const ARCHIVE_SCHEMA = 1

/** A row as it is archived: texts, numbers, and microseconds since 1970. */
export type ArchiveValue = string | number | null
export type ArchiveRow = Readonly<Record<string, ArchiveValue>>

export interface ArchiveColumn {
  readonly name: string
  readonly kind: 'text' | 'integer' | 'micros' | 'uuid'
  /** SQL: the column of the row `r` as it is archived. */
  readonly read: string
  /** SQL: the archived value `v` as it was in the column. */
  readonly restore: (v: string) => string
  /** Whether row groups carry its least and greatest value. */
  readonly bounded: boolean
}

interface Options {
  readonly read?: string
  readonly restore?: (v: string) => string
  readonly bounded?: boolean
}

const text = (name: string, { read = `r.${name}`, restore = (v) => v, bounded = false }: Options = {}): ArchiveColumn => ({
  ...{ name, kind: 'text', read, restore, bounded },
})
const integer = (name: string): ArchiveColumn => ({ name, kind: 'integer', read: `r.${name}`, restore: (v) => v, bounded: false })
const instant = (name: string): ArchiveColumn => ({
  ...{ name, kind: 'micros', bounded: name === 'created_at' },
  read: `(extract(epoch FROM r.${name}) * 1000000)::bigint`,
  restore: (v) => `'epoch'::timestamptz + ${v} * interval '1 microsecond'`,
})
const key = { bounded: true }

// Who publishes with a shorter retention is promised that the payload is gone by then: it is not archived.
const LASTING_PAYLOAD = `CASE WHEN r.expires_at - r.created_at >= interval '${LIMITS.payloadRetentionMaxDays} days' - interval '1 minute' THEN r.payload END`

export interface ArchivedTable {
  readonly columns: readonly ArchiveColumn[]
  /** What rows are sorted by before their id: an index begins with the last of them. */
  readonly groups: readonly ['app_id'] | readonly ['app_id', 'endpoint_id']
  /** The primary key. */
  readonly key: readonly string[]
  /** Bytes of a row `r`, about, without reading what is stored apart from it. */
  readonly size: string
  /** Rows `r` that have a payload in the archive. */
  readonly hasPayload: string
}

export const ARCHIVED: Readonly<Record<ArchiveTable, ArchivedTable>> = {
  message: {
    groups: ['app_id'],
    key: ['id'],
    size: '300 + coalesce(octet_length(r.payload), 0)',
    hasPayload: `(${LASTING_PAYLOAD}) IS NOT NULL`,
    columns: [
      text('id', key),
      text('app_id', key),
      text('event_type'),
      text('event_id'),
      text('channels', {
        read: 'to_json(r.channels)::text',
        restore: (v) => `CASE WHEN ${v} IS NOT NULL THEN ARRAY(SELECT json_array_elements_text(${v}::json)) END`,
      }),
      text('payload', { read: LASTING_PAYLOAD }),
      instant('created_at'),
      instant('expires_at'),
      text('envelope', { read: 'r.envelope::text', restore: (v) => `${v}::jsonb` }),
      instant('deliver_at'),
      instant('cancelled_at'),
      text('ordering_key'),
      text('priority'),
      text('traceparent'),
      text('accepted_in'),
    ],
  },
  attempt: {
    groups: ['app_id', 'endpoint_id'],
    key: ['message_id', 'id'],
    size: '400 + octet_length(r.response_body)',
    hasPayload: 'false',
    columns: [
      text('message_id', key),
      text('id', key),
      text('endpoint_id', key),
      text('app_id', key),
      text('event_type'),
      text('url'),
      integer('status'),
      integer('response_code'),
      text('response_body'),
      integer('duration_ms'),
      integer('trigger'),
      text('group_id'),
      { ...text('run_id', { read: 'r.run_id::text' }), kind: 'uuid' },
      instant('next_attempt_at'),
      instant('created_at'),
    ],
  },
}

/** SQL: whether a row `r` of an attempt has this outcome. */
export const OUTCOME_SQL = { success: `r.status = ${STATUS_SUCCESS}`, failure: `r.status <> ${STATUS_SUCCESS}` } as const
