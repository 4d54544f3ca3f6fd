import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { DEFAULT_ORGANISATION } from '../../domain/default-organisation.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { spawnProcess, spawnScript, type RunningProcess } from '../support/processes.ts'
import { startTestTemporal } from '../support/temporal.ts'

const ROOT = join(import.meta.dirname, '..', '..')
const SECRETS = {
  TIDINGS_JWT_SECRET: 'a secret for the tests of the commands',
  TIDINGS_ENCRYPTION_KEY: 'another secret for the tests of the commands',
}

async function lineOfFailure(command: RunningProcess): Promise<string> {
  assert.equal(await command.ended, 1, command.stderr())
  assert.equal(command.stdout(), '')
  assert.match(command.stderr(), /^[^\n]+\n$/)
  return command.stderr().trim()
}

const NAMES = [
  'start',
  'api',
  'worker',
  'autoscale',
  'versions',
  'token',
  'top',
  'reconcile',
  'region',
  'archive',
  'import',
  'demo',
  'plan',
  'advise',
  'test',
]

for (const name of NAMES) {
  test(`${name} --help explains the command and does nothing`, async () => {
    const command = spawnScript(`cli/${name}.ts`, ['--help'])
    assert.equal(await command.ended, 0)
    assert.match(command.stdout(), new RegExp(`^npm (run )?(--silent )?${name}`))
    assert.equal(command.stderr(), '')
  })
}

test('tidings has every command that an npm script has, and hands over to it', async () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: Record<string, string> }
  const commands = Object.entries(scripts).filter(([name, script]) => / cli\/[\w-]+\.ts$/.test(script) && name !== 'test')
  const help = spawnProcess(process.execPath, ['cli/tidings.mjs'])
  assert.equal(await help.ended, 0)
  for (const [name] of commands) assert.match(help.stdout(), new RegExp(`^  ${name} `, 'm'))
  const worker = spawnProcess(process.execPath, ['cli/tidings.mjs', 'worker', '--help'])
  assert.equal(await worker.ended, 0)
  assert.match(worker.stdout(), /^npm run worker/)
})

test('tidings refuses a command that there is not, and tells those there are', async () => {
  const wrong = spawnProcess(process.execPath, ['cli/tidings.mjs', 'nothing'])
  assert.equal(await wrong.ended, 1)
  assert.match(wrong.stderr(), /^tidings: there is no command "nothing"\n[^]*\n {2}start /)
})

test('a role of its own names the servers that it was not given', async () => {
  const env = { DATABASE_URL: undefined, TEMPORAL_ADDRESS: undefined }
  assert.match(await lineOfFailure(spawnScript('cli/api.ts', [], { env })), /^tidings: set DATABASE_URL and TEMPORAL_ADDRESS: /)
  const half = { ...env, DATABASE_URL: 'postgres://a:b@127.0.0.1:1/c' }
  assert.match(await lineOfFailure(spawnScript('cli/worker.ts', [], { env: half })), /^tidings: set TEMPORAL_ADDRESS: /)
})

test('a role of its own says which server does not answer, without its password', async () => {
  const env = { ...SECRETS, DATABASE_URL: 'postgres://a:hidden@127.0.0.1:1/c', TEMPORAL_ADDRESS: '127.0.0.1:1' }
  const line = await lineOfFailure(spawnScript('cli/worker.ts', [], { env }))
  assert.match(line, /^tidings: (Postgres|Temporal) does not answer at 127\.0\.0\.1:1: start it, or set (DATABASE_URL|TEMPORAL_ADDRESS)/)
  assert.doesNotMatch(line, /hidden/)
})

test('options of the worker that make no sense are named', async () => {
  const cases = [
    [['--role', 'x'], /--role x: must be dispatcher, delivery or all/],
    [['--lanes', 'fast,x'], /--lanes fast,x: "x" is none of fast, slow, retry/],
    [['--partitions', '4'], /--partitions 4: "4" is no partition, TIDINGS_PARTITIONS has 0 to 3/],
    [['--speed', '4'], /Unknown option '--speed'.*--help/],
  ] as const
  for (const [args, expected] of cases) assert.match(await lineOfFailure(spawnScript('cli/worker.ts', args)), expected)
})

test('a token names its subject, the default organisation where none is given', async () => {
  const subjectOf = async (...args: string[]) => {
    const command = spawnScript('cli/token.ts', args, { env: SECRETS })
    assert.equal(await command.ended, 0, command.stderr())
    const claims = JSON.parse(Buffer.from(command.stdout().split('.')[1] ?? '', 'base64url').toString()) as { sub: string; org?: string }
    return [claims.sub, claims.org]
  }
  assert.deepEqual(await subjectOf(), [DEFAULT_ORGANISATION, undefined])
  const application = `app_${'a'.repeat(27)}`
  assert.deepEqual(await subjectOf(application), [application, DEFAULT_ORGANISATION])
  assert.match(await lineOfFailure(spawnScript('cli/token.ts', ['me'], { env: SECRETS })), /"me" is no id/)
})

test('API, dispatcher and delivery workers run apart and stop on SIGTERM', async () => {
  const [database, temporal] = await Promise.all([createTestDatabase(), startTestTemporal()])
  const env = {
    ...SECRETS,
    DATABASE_URL: database.url,
    TEMPORAL_ADDRESS: temporal.address,
    TEMPORAL_NAMESPACE: temporal.namespace,
    TIDINGS_PORT: '0',
    TIDINGS_LOG_LEVEL: 'warn',
  }
  const roles = [
    spawnScript('cli/api.ts', [], { env }),
    spawnScript('cli/worker.ts', ['--role', 'dispatcher'], { env }),
    spawnScript('cli/worker.ts', ['--role', 'delivery', '--lanes', 'fast,retry', '--partitions', '0,1'], { env }),
  ]
  const [api, dispatcher, delivery] = roles as [RunningProcess, RunningProcess, RunningProcess]
  try {
    const [, url = ''] = await api.line(/^tidings ready (http:\S+)$/)
    await dispatcher.line(/^tidings worker ready dispatcher$/)
    await delivery.line(/^tidings worker ready delivery$/)
    assert.equal((await fetch(`${url}/readyz`)).status, 200)
    for (const role of roles) role.signal('SIGTERM')
    assert.deepEqual(await Promise.all(roles.map(({ ended }) => ended)), [0, 0, 0])
  } finally {
    for (const role of roles) role.signal('SIGKILL')
    await Promise.all(roles.map(({ ended }) => ended))
    await database.drop()
  }
})
