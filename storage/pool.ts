import pg from 'pg'

export type Pool = pg.Pool
export type Queryable = Pick<pg.Pool, 'query'>

// bigint columns (identities, counts) stay far below 2^53 here.
pg.types.setTypeParser(pg.types.builtins.INT8, Number)

/** What somebody else's `query` is given, passed on. */
export type Ask = (...args: readonly unknown[]) => Promise<unknown>

export function asking(db: Queryable): Ask {
  return db.query.bind(db)
}

/** The same with another to ask each time. */
export function queryableOf(ask: Ask): Queryable {
  return { query: ask as unknown as Queryable['query'] }
}

/**
 * @param url `postgres://` address
 * @param max connections of this process
 * @param timeouts of one statement, whose connection is of no more use then, and of connecting; without: none, and 5 s
 */
export function createPool(url: string, max: number, timeouts: { statementMs?: number; connectMs?: number } = {}): Pool {
  const pool = new pg.Pool({
    connectionString: url,
    max,
    application_name: 'tidings',
    connectionTimeoutMillis: timeouts.connectMs ?? 5000,
    ...(timeouts.statementMs === undefined ? {} : { query_timeout: timeouts.statementMs }),
    idleTimeoutMillis: 30_000,
    keepAlive: true,
  })
  // A connection that breaks (Postgres restarted) is dropped by the pool. Without a listener it would end the process: of the
  // pool where it was idle, of its own where a transaction has it and no statement is under way.
  pool.on('error', () => undefined)
  pool.on('connect', (client) => client.on('error', () => undefined))
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
