import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { writeFileSync, readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import pg from 'pg'
import { openDataDir } from '../../cli/data-dir.ts'
import { freePort } from '../../cli/embedded/ports.ts'
import { startPostgres } from '../../cli/embedded/postgres.ts'
import { findTemporal } from '../../cli/embedded/temporal-program.ts'
import { startTemporal } from '../../cli/embedded/temporal.ts'
import { silentProgress } from '../../cli/progress.ts'
import { readConfig } from '../../config/index.ts'
import { assertNoProcessNames } from '../support/processes.ts'
import { createScratch } from '../support/scratch.ts'

function folder(context: TestContext): string {
  const scratch = createScratch('embedded')
  context.after(async () => {
    await assertNoProcessNames(scratch.path)
    scratch.remove()
  })
  return scratch.path
}

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client({ connectionString: url })
  await client.connect()
  try {
    return (await client.query(sql)).rows
  } finally {
    await client.end()
  }
}

test('Postgres keeps what was committed through kill -9 and starts again, whatever its pid file says', async (context) => {
  const dataDir = folder(context)
  const first = await startPostgres({ dataDir, port: 0 })
  await query(first.url, 'CREATE TABLE kept AS SELECT 42 AS n')
  process.kill(first.pid, 'SIGKILL')
  assert.equal(await first.ended, 'signal SIGKILL')
  const second = await startPostgres({ dataDir, port: 0 })
  assert.deepEqual(await query(second.url, 'SELECT n FROM kept'), [{ n: 42 }])
  await second.stop()
  // The number of a process that is not Postgres, as after a restart of the machine.
  const other = spawn('sleep', ['60'], { stdio: 'ignore' })
  context.after(() => other.kill())
  writeFileSync(join(dataDir, 'postgres', 'postmaster.pid'), `${other.pid}\n`)
  const third = await startPostgres({ dataDir, port: 0 })
  assert.deepEqual(await query(third.url, 'SHOW fsync'), [{ fsync: 'on' }])
  await third.stop()
  assert.equal(await third.ended, 'exit code 0')
})

test('Postgres asks for its password and listens on the loopback interface only', async (context) => {
  const postgres = await startPostgres({ dataDir: folder(context), port: 0 })
  const wrong = Object.assign(new URL(postgres.url), { password: 'wrong' }).href
  await assert.rejects(query(wrong, 'SELECT 1'), { code: '28P01' })
  assert.deepEqual(await query(postgres.url, 'SHOW listen_addresses'), [{ listen_addresses: '127.0.0.1' }])
  await postgres.stop()
})

test('a taken port is one clear line that names its variable', async (context) => {
  const port = await freePort()
  const server = createServer().listen(port, '127.0.0.1')
  context.after(() => server.close())
  await assert.rejects(startPostgres({ dataDir: folder(context), port }), {
    code: 'port_taken',
    message: new RegExp(`^port ${port} for Postgres is taken .*TIDINGS_POSTGRES_PORT`),
  })
})

test('Temporal starts again on its file after kill -9, its namespace kept for 7 days', async (context) => {
  const dataDir = folder(context)
  const program = await findTemporal({ cacheDir: readConfig().cacheDir, dataDir }, silentProgress)
  const options = { program, dataDir, namespace: 'tidings-test', port: 0, uiPort: 0 }
  const first = await startTemporal(options)
  process.kill(first.pid, 'SIGKILL')
  assert.equal(await first.ended, 'signal SIGKILL')
  const second = await startTemporal(options)
  context.after(() => second.stop())
  const args = ['operator', 'namespace', 'describe', '-n', 'tidings-test', '--address', second.address, '-o', 'json']
  const { stdout } = await promisify(execFile)(program, args)
  assert.match(stdout, /"workflowExecutionRetentionTtl":\s*"604800s"/)
  await second.stop()
})

test('a data directory is taken once, and again when its holder is gone', (context) => {
  const path = folder(context)
  const held = openDataDir(path)
  assert.throws(() => openDataDir(path), { code: 'data_dir_locked', message: new RegExp(`process ${process.pid}\\b.*TIDINGS_DATA_DIR`) })
  held.release()
  writeFileSync(join(path, 'lock'), `${process.pid} of another life\n`)
  const again = openDataDir(path)
  assert.match(readFileSync(join(path, 'lock'), 'utf8'), new RegExp(`^${process.pid} `))
  again.release()
})
