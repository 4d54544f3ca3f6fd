import { randomBytes } from 'node:crypto'
import { chownSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import pg from 'pg'

export interface TestTablespace {
  readonly name: string
  readonly folder: string
  /** Drops it, when nothing is in it any more. */
  drop(): Promise<void>
}

/** A tablespace of the test's own, in a folder beside the data directory of a server on this machine. */
export async function createTablespace(databaseUrl: string, name = `warm_${randomBytes(4).toString('hex')}`): Promise<TestTablespace> {
  // Not of the database that is dropped before it.
  const url = Object.assign(new URL(databaseUrl), { pathname: '/postgres' }).href
  const directory = (await ask<{ data_directory: string }>(url, 'SHOW data_directory')).data_directory
  const { uid, gid } = statSync(directory)
  const folder = mkdtempSync(join(dirname(directory), `${name}-`))
  chownSync(folder, uid, gid)
  await ask(url, `CREATE TABLESPACE ${name} LOCATION '${folder}'`)
  return {
    name,
    folder,
    async drop() {
      await ask(url, `DROP TABLESPACE ${name}`)
      rmSync(folder, { recursive: true })
    },
  }
}

async function ask<T extends object>(url: string, text: string): Promise<T> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query<T>(text)).rows[0] as T
  } finally {
    await client.end()
  }
}
