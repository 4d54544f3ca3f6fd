import assert from 'node:assert/strict'
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { existingTemporalServer, findTemporalServer, TEMPORAL_SERVER_VERSION } from '../../cli/embedded/temporal-server-program.ts'
import { silentProgress } from '../../cli/progress.ts'
import { createScratch, type Scratch } from '../support/scratch.ts'

const path = process.env['PATH']
let scratch: Scratch

beforeEach(() => {
  scratch = createScratch('server-program')
})

afterEach(() => {
  process.env['PATH'] = path
  scratch.remove()
})

/** @returns the path of a program that says it is of this version, with the tool beside it */
function writePrograms(folder: string, version: string): string {
  mkdirSync(folder, { recursive: true })
  for (const name of ['temporal-server', 'temporal-sql-tool']) {
    writeFileSync(join(folder, name), `#!/bin/sh\necho "temporal version ${version}"\n`)
    chmodSync(join(folder, name), 0o755)
  }
  return join(folder, 'temporal-server')
}

test('the version that is wanted is the one that is built', () => {
  const module = readFileSync(join(import.meta.dirname, '../../.ci/temporal-server/go.mod'), 'utf8')
  assert.match(module, new RegExp(`^require go\\.temporal\\.io/server v${TEMPORAL_SERVER_VERSION}( |$)`, 'm'))
})

test('the programs of the cache are used where they are of that version', async () => {
  const places = { program: undefined, cacheDir: scratch.path }
  assert.equal(await existingTemporalServer(places), undefined)
  const folder = join(scratch.path, 'temporal-server')
  writePrograms(folder, '1.20.0')
  assert.equal(await existingTemporalServer(places), undefined)
  const server = writePrograms(folder, TEMPORAL_SERVER_VERSION)
  assert.deepEqual(await findTemporalServer(places, silentProgress), { server, sqlTool: join(folder, 'temporal-sql-tool') })
})

test('a program that is named is used, whatever its version, and has to run', async () => {
  const program = writePrograms(join(scratch.path, 'own'), '1.40.1')
  const find = (name: string) => findTemporalServer({ program: name, cacheDir: scratch.path }, silentProgress)
  assert.equal((await find(program)).server, program)
  await assert.rejects(find(join(scratch.path, 'none')), { code: 'temporal_missing', message: /^TIDINGS_TEMPORAL_SERVER: .*none is not/ })
  const alone = join(scratch.path, 'alone')
  mkdirSync(alone)
  writeFileSync(join(alone, 'temporal-server'), readFileSync(program), { mode: 0o755 })
  await assert.rejects(find(join(alone, 'temporal-server')), { code: 'temporal_missing', message: /no temporal-sql-tool beside/ })
})

test('where there is none and no Go, the line says what to do', async () => {
  process.env['PATH'] = scratch.path
  await assert.rejects(findTemporalServer({ program: undefined, cacheDir: scratch.path }, silentProgress), {
    code: 'temporal_missing',
    message: /Go, which builds it, is not on the PATH: install Go, or set TIDINGS_TEMPORAL_SERVER/,
  })
})
