import type { ArchiveManifest } from '../../domain/archive.ts'
import type { Restored } from '../../storage/archive/restore.ts'
import { PUT_BACK_STATES, type PutBackState } from '../../storage/archive/put-back.ts'
import type { FoundRow } from '../../storage/archive/search.ts'
import type { VerifyReport } from '../../storage/archive/verify.ts'
import type { ReplayedApplication } from './replay.ts'

const WIDTHS = [10, 8, 8, 12, 8, 14, 14, 7] as const

export function describeManifests(url: string, manifests: readonly ArchiveManifest[]): string {
  if (manifests.length === 0) return `Nothing is archived in ${url}\n`
  const sum = (of: (manifest: ArchiveManifest) => number) => manifests.reduce((all, one) => all + of(one), 0)
  const total = { rows: sum((one) => one.rows), rawBytes: sum((one) => one.rawBytes), bytes: sum((one) => one.bytes) }
  const objects = sum((one) => one.objects.length)
  return [
    line(['day', 'table', 'outcome', 'rows', 'objects', 'raw bytes', 'stored bytes', 'ratio']),
    ...manifests.map((one) => line([one.day, one.table, one.outcome ?? '', ...figures(one, one.objects.length)])),
    line(['total', '', '', ...figures(total, objects)]),
  ].join('')
}

function figures({ rows, rawBytes, bytes }: Pick<ArchiveManifest, 'rows' | 'rawBytes' | 'bytes'>, objects: number): string[] {
  return [
    ...[rows, objects, rawBytes, bytes].map((number) => number.toLocaleString('en-US')),
    bytes === 0 ? '' : (rawBytes / bytes).toFixed(1),
  ]
}

function line(cells: readonly string[]): string {
  const padded = cells.map((cell, i) => (i < 3 ? cell.padEnd(WIDTHS[i]!) : cell.padStart(WIDTHS[i]!)))
  return `${padded.join(' ').trimEnd()}\n`
}

/** One line of a row: when, what, and of what size. */
export function describeRow({ table, row }: FoundRow): string {
  const at = new Date(Number(row['created_at']) / 1000).toISOString()
  const what =
    table === 'message'
      ? [
          row['id'],
          row['app_id'],
          row['event_type'],
          row['payload'] === null ? 'no payload' : `${Buffer.byteLength(String(row['payload']))} bytes`,
        ]
      : [row['id'], row['message_id'], row['endpoint_id'], row['response_code'], `${row['duration_ms']} ms`]
  return `${at}  ${what.join('  ')}\n`
}

export function describeRestored(schema: string, { rows, found }: Restored): string {
  const tables = (['message', 'attempt'] as const).filter((table) => found[table] > 0)
  if (tables.length === 0) return `The archive has nothing of that: ${schema} is as it was\n`
  return tables.map((table) => `${schema}.${table}: ${rows[table]} rows restored of ${found[table]} found\n`).join('')
}

const STATE_TEXT: Readonly<Record<PutBackState, string>> = {
  new: 'put back',
  there: 'there already',
  withoutPayload: 'without a payload',
  cancelled: 'cancelled',
  handedIn: 'of another region',
  eventIdTaken: 'whose event id another message has',
  elsewhere: 'of another application here',
}

export function describeReplayed(applications: readonly ReplayedApplication[], dryRun: boolean): string {
  const lines = applications.flatMap(({ from, to, messages, deliveries }) => [
    `${from === to ? from : `${from} as ${to}`}: ${
      PUT_BACK_STATES.filter((state) => messages[state] > 0)
        .map((state) => `${messages[state]} messages ${STATE_TEXT[state]}`)
        .join(', ') || 'no messages'
    }`,
    ...Object.entries(deliveries).map(
      ([endpointId, count]) => `  ${endpointId}: ${count} deliveries ${dryRun ? 'to be sent' : 'put into the outbox'}`,
    ),
  ])
  return `${[...(dryRun ? ['Nothing was written: this is what would become of them.'] : []), ...lines].join('\n')}\n`
}

export function describeVerified({ parts, objects, rows, bytes, problems, orphans }: VerifyReport): string {
  const head = `${parts} parts, ${objects} objects, ${rows} rows, ${bytes} bytes: ${problems.length === 0 ? 'all as they were written' : `${problems.length} problems`}`
  return `${[head, ...problems, ...orphans.map((key) => `left by a run that died, and in nobody's way: ${key}`)].join('\n')}\n`
}
