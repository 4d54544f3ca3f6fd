import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import { float8Array, int2Array, int4Array, textArray, uuidArray } from '../../storage/arrays.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

let database: TestDatabase
let pool: Pool

before(async () => {
  database = await createTestDatabase()
  pool = createPool(database.url, 1)
})

after(async () => {
  await pool?.end()
  await database?.drop()
})

async function readBack(type: string, array: Buffer): Promise<unknown[]> {
  const { rows } = await pool.query<{ one: unknown }>({
    text: `SELECT one FROM unnest($1::${type}[]) WITH ORDINALITY AS t (one, position) ORDER BY position`,
    values: [array],
  })
  return rows.map(({ one }) => one)
}

// What a text of Postgres can hold: no NUL, and whole characters.
const text = fc.string({ unit: 'binary' }).map((value) => value.replaceAll('\0', '').toWellFormed())

const types = [
  { type: 'text', encode: textArray, one: text },
  { type: 'smallint', encode: int2Array, one: fc.integer({ min: -32_768, max: 32_767 }) },
  { type: 'int', encode: int4Array, one: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }) },
  { type: 'float8', encode: float8Array, one: fc.double({ noNaN: true }).filter((value) => !Object.is(value, -0)) },
  { type: 'uuid', encode: uuidArray, one: fc.uuid() },
] as const

for (const { type, encode, one } of types) {
  test(`Postgres reads a ${type}[] as it was, with nulls, and an empty one`, async () => {
    const arrays = fc.array(fc.option(one as fc.Arbitrary<string | number>), { maxLength: 20 })
    const property = fc.asyncProperty(arrays, async (values) => {
      assert.deepEqual(await readBack(type, (encode as (all: unknown[]) => Buffer)(values)), values)
    })
    await fc.assert(property, { numRuns: 50, examples: [[[]], [[null]]] })
  })
}

test('texts that an array in text form would have to escape, and undefined', async () => {
  const values = ['', 'NULL', '{a,b}', '"', '\\', '\\"', ' a\n\tb ', 'é☃𝄞', '{"json": "\\u0041"}']
  assert.deepEqual(await readBack('text', textArray([...values, undefined])), [...values, null])
})

test('what is no UUID is refused', () => {
  assert.throws(() => uuidArray(['a UUID']), RangeError)
})
