import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { bundleWorkflowCode } from '@temporalio/worker'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const SOURCES = ['domain', 'workflows', 'activities', 'http', 'storage', 'config', 'api', 'workers', 'cli', 'portal', 'bench', 'test']

interface Verdict {
  readonly code: number
  readonly report: string
}

async function cruise(root: string): Promise<Verdict> {
  const script = join(ROOT, 'node_modules/dependency-cruiser/bin/dependency-cruiser.mjs')
  const folders = SOURCES.filter((folder) => existsSync(join(root, folder)))
  const flags = ['--config', '.dependency-cruiser.js', '--output-type', 'err-long']
  return await new Promise((resolve) => {
    execFile(process.execPath, [script, ...flags, ...folders], { cwd: root }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : Number(error.code), report: `${stdout}${stderr}` })
    })
  })
}

/** A copy of the sources, with the packages of this tree, and `files` besides. */
async function plant(t: TestContext, files: Readonly<Record<string, string>>): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'tidings-boundaries-'))
  t.after(() => rm(root, { recursive: true, force: true }))
  await symlink(join(ROOT, 'node_modules'), join(root, 'node_modules'))
  for (const name of await readdir(ROOT)) {
    const isSource = SOURCES.includes(name) || ['package.json', 'tsconfig.json', '.dependency-cruiser.js'].includes(name)
    if (isSource && name !== 'test' && name !== 'bench') await cp(join(ROOT, name), join(root, name), { recursive: true })
  }
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), text)
  }
  return root
}

test('the tree keeps its boundaries', async () => {
  const { code, report } = await cruise(ROOT)
  assert.equal(code, 0, report)
})

const VIOLATIONS: readonly (readonly [string, string, string])[] = [
  ['domain/planted-builtin.ts', "import { randomBytes } from 'node:crypto'\nexport const a = randomBytes", 'domain-is-pure'],
  ['domain/planted-package.ts', "import { z } from 'zod'\nexport const a = z", 'domain-is-pure'],
  ['domain/planted-storage.ts', "import { createPool } from '../storage/pool.ts'\nexport const a = createPool", 'domain-is-pure'],
  ['workflows/planted-builtin.ts', "import { readFileSync } from 'node:fs'\nexport const a = readFileSync", 'workflows-are-deterministic'],
  ['workflows/planted-client.ts', "import { Client } from '@temporalio/client'\nexport const a = Client", 'workflows-are-deterministic'],
  [
    'workflows/planted-http.ts',
    "import { createSigner } from '../http/signing.ts'\nexport const a = createSigner",
    'workflows-are-deterministic',
  ],
  ['workflows/planted-value.ts', "import { a } from '../activities/planted.ts'\nexport const b = a", 'workflows-take-types-of-activities'],
  ['activities/planted-config.ts', "import { readConfig } from '../config/index.ts'\nexport const a = readConfig", 'activities-boundary'],
  ['activities/planted-sql.ts', "import pg from 'pg'\nexport const a = pg", 'postgres-in-storage-only'],
  ['http/planted-storage.ts', "import { createPool } from '../storage/pool.ts'\nexport const a = createPool", 'http-boundary'],
  ['storage/planted-http.ts', "import { createSigner } from '../http/signing.ts'\nexport const a = createSigner", 'storage-boundary'],
  ['config/planted-http.ts', "import { createSigner } from '../http/signing.ts'\nexport const a = createSigner", 'config-boundary'],
  ['http/planted-dev.ts', "import { parse } from 'yaml'\nexport const a = parse", 'no-undeclared-packages'],
  ['http/planted-missing.ts', "import { a } from './nowhere.ts'\nexport const b = a", 'no-missing-files'],
]

test('every kind of forbidden import fails the check by name, and a type of an activity does not', async (t) => {
  const root = await plant(t, {
    ...Object.fromEntries(VIOLATIONS.map(([path, text]) => [path, `${text}\n`])),
    'activities/planted.ts': 'export const a = 1\nexport type A = typeof a\n',
    'workflows/planted-type.ts': "import type { A } from '../activities/planted.ts'\nexport const b: A = 1\n",
  })
  const { code, report } = await cruise(root)
  assert.notEqual(code, 0)
  for (const [path, , rule] of VIOLATIONS) assert.match(report, new RegExp(`error ${rule}: ${path.replaceAll('.', '\\.')}`), path)
  assert.doesNotMatch(report, /planted-type/)
})

const WORKFLOWS = join(ROOT, 'workflows/index.ts')

test('the workflow bundle builds', { skip: !existsSync(WORKFLOWS) && 'there is no workflows/index.ts yet' }, async () => {
  const silent = { log() {}, trace() {}, debug() {}, info() {}, warn() {}, error() {} }
  const { code } = await bundleWorkflowCode({ workflowsPath: WORKFLOWS, logger: silent })
  assert.ok(code.length > 10_000)
})
