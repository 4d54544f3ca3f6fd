import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createPool, inTransaction, type Pool } from '../../storage/pool.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

let database: TestDatabase
let pool: Pool

before(async () => {
  database = await createTestDatabase()
  pool = createPool(database.url, 2)
})

after(async () => {
  await pool?.end()
  await database?.drop()
})

test('a connection that breaks between two statements of a transaction fails the transaction, not the process', async () => {
  const broken = inTransaction(pool, async (client) => {
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
    const ended = new Promise((resolve) => client.once('end', resolve))
    await pool.query('SELECT pg_terminate_backend($1)', [rows[0]!.pid])
    await ended
    await client.query('SELECT 1')
  })
  await assert.rejects(broken)
  assert.equal((await inTransaction(pool, (client) => client.query('SELECT 1 AS one'))).rows.length, 1)
})
