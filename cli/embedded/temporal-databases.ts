import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { CommandFailure, reasonOf } from '../failure.ts'

const run = promisify(execFile)

// Dozens of versions of the schema, on a machine that may be busy.
const STEP_TIMEOUT_MS = 120_000

/** Names of a Temporal server's databases. */
export interface TemporalDatabases {
  readonly persistence: string
  readonly visibility: string
}

/** How Postgres is reached, as Temporal's programs want it. */
export interface PostgresAccess {
  readonly host: string
  readonly port: string
  readonly user: string
  readonly password: string
}

/** @param url of any database of the server */
export function postgresAccess(url: string): PostgresAccess {
  const { hostname, port, username, password } = new URL(url)
  return {
    host: hostname,
    port: port === '' ? '5432' : port,
    user: decodeURIComponent(username),
    password: decodeURIComponent(password),
  }
}

/**
 * Creates what is missing of a Temporal server's databases, and brings them to the version of the tool, which holds the
 * schemas. Repeating it changes nothing.
 * @param sqlTool the `temporal-sql-tool`
 * @throws {CommandFailure} `temporal_failed`
 */
export async function migrateTemporalDatabases(sqlTool: string, access: PostgresAccess, databases: TemporalDatabases): Promise<void> {
  await Promise.all([
    migrate(sqlTool, access, databases.persistence, 'postgresql/v12/temporal'),
    migrate(sqlTool, access, databases.visibility, 'postgresql/v12/visibility'),
  ])
}

async function migrate(sqlTool: string, access: PostgresAccess, database: string, schema: string): Promise<void> {
  const { host, port, user, password } = access
  const steps = [['create-database'], ['setup-schema', '--version', '0.0'], ['update-schema', '--schema-name', schema]]
  for (const step of steps) {
    const where = ['--plugin', 'postgres12', '--endpoint', host, '--port', port, '--user', user, '--database', database]
    try {
      await run(sqlTool, [...where, ...step], { timeout: STEP_TIMEOUT_MS, env: { SQL_PASSWORD: password } })
    } catch (cause) {
      const { stdout = '', stderr = '' } = cause as { stdout?: string; stderr?: string }
      const reason = /"error":\s*"([^"]+)/.exec(stdout + stderr)?.[1] ?? reasonOf(cause)
      throw new CommandFailure('temporal_failed', `Temporal's database ${database} could not be prepared (${step[0]}: ${reason})`, {
        cause,
      })
    }
  }
}
