import assert from 'node:assert/strict'
import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { VARIABLES } from '../../config/index.ts'
import { LIMITS } from '../../domain/limits.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const PAGES = globSync(['*.md', 'docs/**/*.md', 'bench/**/*.md', 'deploy/**/*.md', 'examples/**/*.md'], { cwd: ROOT })
const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')

/** The anchor that the usual renderers give a heading. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll('`', '')
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replaceAll(/\s/g, '-')
}

function anchorsOf(path: string): readonly string[] {
  return [...readFileSync(path, 'utf8').matchAll(/^#+ (.+)$/gm)].map(([, heading]) => anchorOf(heading ?? ''))
}

/** Text without code, in which brackets are no links. */
function prose(text: string): string {
  return text.replaceAll(/^```[\s\S]*?^```/gm, '').replaceAll(/`[^`\n]*`/g, '')
}

for (const page of PAGES) {
  test(`${page}: its links lead to files and headings that exist`, () => {
    for (const [, target] of prose(read(page)).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (target === undefined || /^[a-z]+:/.test(target)) continue
      const [path, anchor] = target.split('#')
      const file = path === '' || path === undefined ? join(ROOT, page) : resolve(dirname(join(ROOT, page)), path)
      assert.ok(existsSync(file), target)
      if (anchor !== undefined) assert.ok(anchorsOf(file).includes(anchor), target)
    }
  })

  test(`${page}: the files it names in backquotes exist`, () => {
    const named = [
      ...read(page).matchAll(/`((?:activities|api|cli|config|deploy|docs|domain|http|storage|test|workers|workflows|\.ci)\/[\w./-]*)`/g),
    ]
    for (const [, path] of named) assert.ok(existsSync(join(ROOT, path ?? '')), path)
  })
}

test('the configuration page has every variable, and no page names one that does not exist', () => {
  const page = read('docs/configuration.md')
  for (const variable of VARIABLES) assert.match(page, new RegExp(`^\\| \`${variable}\` +\\|`, 'm'), variable)
  const tests = /^TIDINGS_TEST_/
  for (const path of PAGES.filter((one) => !one.startsWith('docs/adr/'))) {
    for (const [name] of read(path).matchAll(/\bTIDINGS_[A-Z_]+\b/g)) {
      assert.ok(tests.test(name) || (VARIABLES as readonly string[]).includes(name), `${path}: ${name}`)
    }
  }
})

test('the limits page has every limit with its value', () => {
  const page = read('docs/limits.md')
  for (const [name, value] of Object.entries(LIMITS)) {
    assert.match(page, new RegExp(`\\| \`${name}\` +\\| ${value.toLocaleString('en-US')} +\\|`), `${name} is ${value}`)
  }
})

test('every npm command that a page names is in package.json', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> }
  for (const path of PAGES) {
    for (const [, name] of read(path).matchAll(/\bnpm run (?:--silent )?([a-z][\w:-]*)/g))
      assert.ok((name ?? '') in scripts, `${path}: ${name}`)
  }
})

test('no page or source names a path of the machine it was written on', () => {
  const patterns = ['*.md', '*/**/*.{md,ts,mjs,yml,yaml,sh}', '.ci/*.*', '.ci/run', '.ci/*/*', 'Dockerfile', '*.yml', '*.js']
  for (const file of globSync(patterns, { cwd: ROOT, exclude: (name) => ['node_modules', '.tidings', 'coverage'].includes(name) })) {
    assert.doesNotMatch(read(file), /(?<![\w.])\/(work|home|root)\/\w/, file)
  }
})
