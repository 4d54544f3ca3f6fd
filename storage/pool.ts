import pg from 'pg'

export type Pool = pg.Pool
export type Queryable = Pick<pg.Pool, 'query'>

// bigint columns (identities, counts) stay far below 2^53 here.
pg.types.setTypeParser(pg.types.builtins.INT8, Number)

/**
 * @param url `postgres://` address
 * @param max connections of this process
 */
export function createPool(url: string, max: number): Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max,
    application_name: 'tidings',
    connectionTimeoutMillis: 5000,
    idleTimeoutMillis: 30_000,
    keepAlive: true,
  })
  // A connection that breaks while idle (Postgres restarted) is dropped by the pool; without a listener it ends the process.
  pool.on('error', () => undefined)
  return pool
}

/** Runs `work` in one transaction, rolled back when it throws. */
export async function inTransaction<T>(pool: Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect()
  let broken: Error | undefined
  try {
    await client.query('BEGIN')
    const result = await work(client)
    await client.query('COMMIT')
    return result
  } catch (error) {
    await client.query('ROLLBACK').catch((reason: unknown) => {
      broken = reason instanceof Error ? reason : new Error(String(reason))
    })
    throw error
  } finally {
    client.release(broken)
  }
}
