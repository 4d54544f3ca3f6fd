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

/** Told of every statement: its name (of those without one `begin`, `commit`, `rollback` or `other`), and how long it took. */
export type ObserveStatement = (statement: string, ms: number) => void

const TRANSACTION = /^(BEGIN|COMMIT|ROLLBACK)$/

/** Has statements of connections that are opened from now on observed, from when they are sent until they are answered. */
export function observeStatements(pool: Pool, observe: ObserveStatement): void {
  pool.on('connect', (client) => {
    type Query = (...args: unknown[]) => unknown
    const query = client.query.bind(client) as Query
    client.query = ((...args: unknown[]) => {
      const startedAt = performance.now()
      const ended = () => observe(nameOf(args[0]), performance.now() - startedAt)
      const last = args.at(-1)
      if (typeof last === 'function') {
        const told = (...answer: unknown[]) => {
          ended()
          ;(last as Query)(...answer)
        }
        return query(...args.slice(0, -1), told)
      }
      const answer = query(...args)
      if (answer instanceof Promise) answer.then(ended, ended)
      return answer
    }) as typeof client.query
  })
}

function nameOf(statement: unknown): string {
  if (typeof statement === 'string') return TRANSACTION.test(statement) ? statement.toLowerCase() : 'other'
  return (statement as { readonly name?: string }).name ?? 'other'
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
