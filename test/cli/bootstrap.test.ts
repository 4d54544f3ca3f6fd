import assert from 'node:assert/strict'
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { spawnProcess, type RunningProcess } from '../support/processes.ts'
import { createScratch } from '../support/scratch.ts'

const BOOTSTRAP = join(import.meta.dirname, '..', '..', 'cli', 'bootstrap.mjs')

/** Stands in for npm: notes that it ran, waits for the file `go` where told to, "installs" what the lock file has. */
const NPM = `#!/bin/sh
echo "$*" >> runs
while [ -f wait ] && [ ! -f go ]; do sleep 0.02; done
if [ -f broken ]; then echo "npm error code ENOTFOUND" >&2; echo "npm error request to the registry failed" >&2; exit 1; fi
mkdir -p node_modules && cp package-lock.json node_modules/.package-lock.json`

const TARGET = `let signals = 0
const ready = () => process.stdout.write('arguments ' + process.argv.slice(2).join('|') + '\\n')
if (process.argv[2] === 'wait') {
  const timer = setInterval(() => {}, 1000)
  process.on('SIGTERM', () => { signals++; clearInterval(timer); setTimeout(() => { process.stdout.write('signals ' + signals + '\\n'); process.exit(0) }, 300) })
  ready()
} else {
  ready()
  process.exit(7)
}`

interface House {
  readonly path: string
  start(...args: string[]): RunningProcess
  runs(): number
}

function createHouse(context: TestContext): House {
  const scratch = createScratch('bootstrap')
  context.after(() => scratch.remove())
  const { path } = scratch
  for (const folder of ['cli', 'bin']) mkdirSync(join(path, folder))
  cpSync(BOOTSTRAP, join(path, 'cli', 'bootstrap.mjs'))
  writeFileSync(join(path, 'cli', 'target.mjs'), TARGET)
  writeFileSync(join(path, 'bin', 'npm'), NPM)
  chmodSync(join(path, 'bin', 'npm'), 0o755)
  writeLock(path, '1.0.0')
  const env = { PATH: `${join(path, 'bin')}:${process.env['PATH'] ?? ''}`, npm_execpath: undefined }
  return {
    path,
    start: (...args) => spawnProcess(process.execPath, [join(path, 'cli', 'bootstrap.mjs'), 'cli/target.mjs', ...args], { cwd: path, env }),
    runs: () => (existsSync(join(path, 'runs')) ? readFileSync(join(path, 'runs'), 'utf8').trim().split('\n').length : 0),
  }
}

function writeLock(path: string, version: string): void {
  const packages = { '': { name: 'house' }, 'node_modules/thing': { version } }
  writeFileSync(join(path, 'package-lock.json'), JSON.stringify({ name: 'house', lockfileVersion: 3, packages }))
}

test('the first start installs, later ones do not, and arguments and exit code pass through', async (context) => {
  const house = createHouse(context)
  const first = house.start('one', 'two words')
  assert.equal(await first.ended, 7)
  assert.equal(first.stdout(), 'arguments one|two words\n')
  assert.match(first.stderr(), /installing dependencies \(npm ci\)/)
  assert.equal(house.runs(), 1)
  const second = house.start()
  assert.equal(await second.ended, 7)
  assert.equal(second.stderr(), '')
  assert.equal(house.runs(), 1)
})

test('a changed lock file is installed, one that node_modules already satisfies is not', async (context) => {
  const house = createHouse(context)
  await house.start().ended
  writeLock(house.path, '2.0.0')
  await house.start().ended
  assert.equal(house.runs(), 2)
  writeLock(house.path, '3.0.0')
  cpSync(join(house.path, 'package-lock.json'), join(house.path, 'node_modules', '.package-lock.json'))
  await house.start().ended
  assert.equal(house.runs(), 2)
})

test('of two starts at the same time one installs and the other waits for it', async (context) => {
  const house = createHouse(context)
  writeFileSync(join(house.path, 'wait'), '')
  const first = house.start('a')
  await first.line(/installing dependencies/)
  const second = house.start('b')
  await second.line(/waiting for another start/)
  writeFileSync(join(house.path, 'go'), '')
  assert.deepEqual(await Promise.all([first.ended, second.ended]), [7, 7])
  assert.equal(house.runs(), 1)
})

test('an installation that fails is one clear line, and the next start tries again', async (context) => {
  const house = createHouse(context)
  writeFileSync(join(house.path, 'broken'), '')
  for (const runs of [1, 2]) {
    const start = house.start()
    assert.equal(await start.ended, 1)
    assert.match(start.stderr(), /^tidings: npm ci failed \(request to the registry failed\): check the network.*$/m)
    assert.equal(start.stdout(), '')
    assert.equal(house.runs(), runs)
  }
})

test('a signal reaches the command once, and its exit code comes back', async (context) => {
  const house = createHouse(context)
  const start = house.start('wait')
  await start.line(/^arguments wait/)
  start.signal('SIGTERM')
  assert.equal(await start.ended, 0)
  assert.match(start.stdout(), /^signals 1$/m)
})
