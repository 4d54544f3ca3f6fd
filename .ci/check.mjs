/**
 * `npm run check`: formatting, lint, types, boundaries, dead code, one line each. Every check runs, also after one that
 * fails, so that one run shows all there is to mend; what a failing check printed follows its line.
 */
import { spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = dirname(dirname(fileURLToPath(import.meta.url)))

const SOURCE_FOLDERS = [
  'domain',
  'workflows',
  'activities',
  'http',
  'storage',
  'config',
  'api',
  'workers',
  'cli',
  'portal',
  'bench',
  'test',
]

const CHECKS = [
  { name: 'formatting', tool: 'prettier', arguments: ['--check', '--log-level', 'warn', '.'] },
  { name: 'lint', tool: 'eslint', arguments: ['--max-warnings', '0', '.'] },
  { name: 'types', tool: 'typescript', bin: 'tsc', arguments: ['--noEmit', '-p', '.'] },
  {
    name: 'boundaries',
    tool: 'dependency-cruiser',
    bin: 'depcruise',
    arguments: [
      '--config',
      '.dependency-cruiser.js',
      '--output-type',
      'err-long',
      ...SOURCE_FOLDERS.filter((folder) => existsSync(join(root, folder))),
    ],
  },
  { name: 'dead code', tool: 'knip', arguments: ['--no-progress', '--no-config-hints'] },
]

/** The tool's own script, run by this Node: a shebang would take whichever Node the PATH has, and some tools refuse old ones. */
function scriptOf({ tool, bin = tool }) {
  const folder = join(root, 'node_modules', tool)
  const { bin: bins } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  return join(folder, typeof bins === 'string' ? bins : bins[bin])
}

function run(check) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [scriptOf(check), ...check.arguments], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    let output = ''
    child.stdout.on('data', (chunk) => (output += chunk))
    child.stderr.on('data', (chunk) => (output += chunk))
    child.on('close', (code) => resolve({ passed: code === 0, output }))
  })
}

let failed = 0
for (const check of CHECKS) {
  const startedAt = performance.now()
  const { passed, output } = await run(check)
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1)
  console.log(`${passed ? 'ok    ' : 'FAILED'} ${check.name} (${check.bin ?? check.tool}, ${seconds} s)`)
  if (!passed) {
    failed++
    console.log(output.trimEnd())
  }
}
if (failed > 0) console.log(`${failed} of ${CHECKS.length} checks failed`)
process.exitCode = failed === 0 ? 0 : 1
