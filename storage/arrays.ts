/**
 * Array parameters in Postgres's binary form. pg writes arrays as text, where each element is searched and its quotes escaped,
 * and Postgres reads them back: for a kilobyte of JSON that is 17 µs here instead of 0.6 (ADR 35). Statements
 * that write in groups use these; the parameter's cast in the statement has to be of the type that the function names.
 */

const TEXT = 25
const INT2 = 21
const INT4 = 23
const FLOAT8 = 701
const UUID = 2950

const HEADER_BYTES = 20
const EMPTY_BYTES = 12
const NULL_LENGTH = -1
const UUID_BYTES = 16

type Absent = null | undefined
type Nullable<T> = readonly (T | Absent)[]

/** `text[]`; null and undefined become NULL. */
export function textArray(values: Nullable<string>): Buffer {
  const count = values.length
  let bytes = HEADER_BYTES + count * 4
  for (let i = 0; i < count; i++) bytes += Buffer.byteLength(values[i] ?? '')
  const array = begin(TEXT, count, bytes)
  let at = HEADER_BYTES
  for (let i = 0; i < count; i++) {
    const value = values[i]
    const length = isAbsent(value) ? NULL_LENGTH : array.write(value, at + 4)
    array.writeInt32BE(length, at)
    at += 4 + Math.max(0, length)
  }
  return array
}

/** `smallint[]` */
export function int2Array(values: Nullable<number>): Buffer {
  return ofFixed(INT2, 2, values, (array, value, at) => array.writeInt16BE(value, at))
}

/** `int[]` */
export function int4Array(values: Nullable<number>): Buffer {
  return ofFixed(INT4, 4, values, (array, value, at) => array.writeInt32BE(value, at))
}

/** `float8[]` */
export function float8Array(values: Nullable<number>): Buffer {
  return ofFixed(FLOAT8, 8, values, (array, value, at) => array.writeDoubleBE(value, at))
}

/** `uuid[]`, of the usual form with hyphens. @throws {RangeError} for what is none */
export function uuidArray(values: Nullable<string>): Buffer {
  // Most of a group have the same.
  let last = ''
  let digits = ''
  return ofFixed(UUID, UUID_BYTES, values, (array, value, at) => {
    if (value !== last) digits = value.replaceAll('-', '')
    last = value
    if (array.write(digits, at, UUID_BYTES, 'hex') !== UUID_BYTES) throw new RangeError(`not a UUID: ${value}`)
  })
}

function ofFixed<T>(type: number, bytesOfOne: number, values: Nullable<T>, write: (array: Buffer, value: T, at: number) => void): Buffer {
  const count = values.length
  let bytes = HEADER_BYTES + count * (4 + bytesOfOne)
  for (let i = 0; i < count; i++) if (isAbsent(values[i])) bytes -= bytesOfOne
  const array = begin(type, count, bytes)
  let at = HEADER_BYTES
  for (let i = 0; i < count; i++) {
    const value = values[i]
    array.writeInt32BE(isAbsent(value) ? NULL_LENGTH : bytesOfOne, at)
    at += 4
    if (isAbsent(value)) continue
    write(array, value, at)
    at += bytesOfOne
  }
  return array
}

/** One dimension that begins at 1; none where there is no element. */
function begin(type: number, elements: number, bytes: number): Buffer {
  const array = Buffer.allocUnsafe(elements === 0 ? EMPTY_BYTES : bytes)
  array.writeInt32BE(elements === 0 ? 0 : 1, 0)
  // A hint whether there are nulls, which Postgres finds by itself.
  array.writeInt32BE(0, 4)
  array.writeInt32BE(type, 8)
  if (elements === 0) return array
  array.writeInt32BE(elements, 12)
  array.writeInt32BE(1, 16)
  return array
}

const isAbsent = <T>(value: T | Absent): value is Absent => value === null || value === undefined
