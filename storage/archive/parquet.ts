/** Rows as Parquet, and back: row groups in the order of the rows, compressed with zstd. */
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { parquetMetadataAsync, parquetReadObjects, type AsyncBuffer, type FileMetaData, type SchemaElement } from 'hyparquet'
import { ByteWriter, ParquetWriter } from 'hyparquet-writer'
import type { ArchiveTable } from '../../domain/archive.ts'
import { LIMITS } from '../../domain/limits.ts'
import { ARCHIVED, type ArchiveColumn, type ArchiveRow, type ArchiveValue } from './tables.ts'

// Three more levels take twice the time for a twentieth of the bytes (docs/archive.md).
const ZSTD_LEVEL = 12

const compress = (input: Uint8Array) => zstdCompressSync(input, { params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL } })
const decompress = (input: Uint8Array, bytes: number) => zstdDecompressSync(input, { maxOutputLength: Math.max(1, bytes) })

const TYPES = {
  text: { type: 'BYTE_ARRAY', converted_type: 'UTF8' },
  integer: { type: 'INT32' },
  uuid: { type: 'FIXED_LEN_BYTE_ARRAY', type_length: 16, logical_type: { type: 'UUID' } },
  micros: { type: 'INT64', converted_type: 'TIMESTAMP_MICROS' },
} as const satisfies Record<ArchiveColumn['kind'], Partial<SchemaElement>>

/** Collects rows to a file of Parquet in memory. */
export interface ParquetBuilder {
  /** @param rows of one row group */
  add(rows: readonly ArchiveRow[]): void
  /** Bytes so far. */
  readonly bytes: number
  finish(): Uint8Array
}

export function createParquetBuilder(table: ArchiveTable, about: Readonly<Record<string, string>>): ParquetBuilder {
  const { columns } = ARCHIVED[table]
  const writer = new ByteWriter()
  const parquet = new ParquetWriter({
    writer,
    schema: [
      { name: 'root', num_children: columns.length },
      ...columns.map(({ name, kind }) => ({ name, repetition_type: 'OPTIONAL' as const, ...TYPES[kind] })),
    ],
    codec: 'ZSTD',
    compressors: { ZSTD: compress },
    // Ids whole, so that a row group is found by them.
    statisticsTruncateLength: 64,
    kvMetadata: Object.entries(about).map(([key, value]) => ({ key, value })),
    createdBy: 'tidings',
  })
  return {
    add(rows) {
      const columnData = columns.map(({ name, kind, bounded }) => ({
        name,
        data: rows.map((row) => encode(row[name] ?? null, kind)),
        statistics: bounded,
        offsetIndex: false,
        // Times rise, or nearly so: their differences are short.
        ...(kind === 'micros' ? { encoding: 'DELTA_BINARY_PACKED' as const } : {}),
      }))
      // One page for each column: what repeats from row to row is compressed together.
      void parquet.write({ columnData, rowGroupSize: rows.length, pageSize: LIMITS.archiveRowGroupBytes * 4 })
    },
    get bytes() {
      return writer.offset
    },
    finish() {
      void parquet.finish()
      return writer.getBytes()
    },
  }
}

function encode(value: ArchiveValue, kind: ArchiveColumn['kind']): ArchiveValue | bigint {
  return kind === 'micros' && value !== null ? BigInt(value) : value
}

/** Least and greatest value of a column in a row group. */
export type Bounds = readonly [ArchiveValue, ArchiveValue]

export interface RowGroup {
  /** Number of its first row in the file. */
  readonly start: number
  readonly rows: number
  /** By column; absent where they are not known. */
  readonly bounds: ReadonlyMap<string, Bounds>
}

export interface ParquetFile {
  readonly rows: number
  readonly groups: readonly RowGroup[]
  /** @param columns those that are read; absent: all */
  read(group: RowGroup, columns?: readonly string[]): Promise<ArchiveRow[]>
}

/** @param file what is asked for ranges: the end of it first, then the columns of each row group that is read */
export async function openParquet(file: AsyncBuffer): Promise<ParquetFile> {
  const metadata = await parquetMetadataAsync(file, { parsers: PARSERS, initialFetchSize: LIMITS.archiveFooterBytes })
  return {
    rows: Number(metadata.num_rows),
    groups: groupsOf(metadata),
    async read(group, columns) {
      const rows = await parquetReadObjects({
        ...{ file, metadata, compressors: { ZSTD: decompress }, parsers: PARSERS },
        ...{ rowStart: group.start, rowEnd: group.start + group.rows },
        ...(columns === undefined ? {} : { columns: [...columns] }),
      })
      return rows.map(decodeRow)
    },
  }
}

// Microseconds as they are: a Date would round them.
const PARSERS = { timestampFromMicroseconds: (micros: bigint) => Number(micros) }

function groupsOf({ row_groups: all }: FileMetaData): RowGroup[] {
  let start = 0
  return all.map(({ num_rows, columns }) => {
    const bounds = new Map<string, Bounds>()
    for (const { meta_data: column } of columns) {
      const { min_value: min, max_value: max } = column?.statistics ?? {}
      if (column !== undefined && min !== undefined && max !== undefined) {
        bounds.set(column.path_in_schema.join('.'), [decode(min), decode(max)])
      }
    }
    const group = { start, rows: Number(num_rows), bounds }
    start += group.rows
    return group
  })
}

function decodeRow(row: Readonly<Record<string, unknown>>): ArchiveRow {
  return Object.fromEntries(Object.entries(row).map(([name, value]) => [name, decode(value)]))
}

function decode(value: unknown): ArchiveValue {
  if (value === null || value === undefined) return null
  if (typeof value === 'string' || typeof value === 'number') return value
  if (typeof value === 'bigint') return Number(value)
  throw new TypeError(`a value of Parquet that is a ${typeof value}`)
}
