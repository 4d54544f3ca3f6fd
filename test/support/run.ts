import { globSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { Transform, type TransformCallback } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'
import { parseArgs } from 'node:util'

/**
 * Runs the tests in rounds that report as one: first those that share a machine well, two files at a time, then those that hold
 * what they run on to times, or need all of the machine, one file at a time. Closes with one summary of node:test.
 */

const ROOT = join(import.meta.dirname, '..', '..')
const ALONE =
  /^test\/(chaos\/(temporal-away|warm-tables)|cli\/start|e2e\/(breaker\.|real-seconds)|regions\/(configuration-cluster|drill|takeover)\.)/
/** Looks at what all the others have left in Temporal and in the logs. */
const LAST = /^test\/leaks\//
/** A test that takes this long, ten times what the longest one takes, waits for what will not come. */
const HANGS_AFTER_MS = 600_000
const COUNT = /^(tests|suites|pass|fail|cancelled|skipped|todo|duration_ms) ([\d.]+)$/

interface TestEvent {
  readonly type: string
  readonly data: { readonly nesting?: number; readonly message?: string }
}

function filesOf(pattern: string): string[] {
  const isFolder = statSync(join(ROOT, pattern), { throwIfNoEntry: false })?.isDirectory() === true
  const found = globSync(isFolder ? `${pattern.replace(/\/$/, '')}/**/*.test.ts` : pattern, { cwd: ROOT })
  if (found.length === 0) throw new Error(`no test file matches ${pattern}`)
  return found.map((file) => relative(ROOT, join(ROOT, file)))
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'test-name-pattern': { type: 'string', multiple: true },
    'test-concurrency': { type: 'string' },
    'test-timeout': { type: 'string' },
    'test-only': { type: 'boolean' },
  },
})
const files = [...new Set((positionals.length === 0 ? ['test'] : positionals).flatMap(filesOf))].sort()
const totals = new Map<string, number>()
const report = new spec()
report.pipe(process.stdout)

async function round(chosen: readonly string[], concurrency: number): Promise<void> {
  if (chosen.length === 0) return
  const events = run({
    files: chosen.map((file) => join(ROOT, file)),
    cwd: ROOT,
    concurrency: values['test-concurrency'] === undefined ? concurrency : Number(values['test-concurrency']),
    timeout: values['test-timeout'] === undefined ? HANGS_AFTER_MS : Number(values['test-timeout']),
    execArgv: ['--import', new URL('ends.ts', import.meta.url).href],
    only: values['test-only'] === true,
    testNamePatterns: values['test-name-pattern']?.map((pattern) => new RegExp(pattern)),
  })
  const withoutSummary = new Transform({
    objectMode: true,
    transform(event: TestEvent, _encoding: BufferEncoding, done: TransformCallback) {
      const count = event.type === 'test:diagnostic' && event.data.nesting === 0 ? COUNT.exec(event.data.message ?? '') : null
      if (count === null) return done(null, event)
      totals.set(count[1]!, (totals.get(count[1]!) ?? 0) + Number(count[2]))
      return done()
    },
  })
  await pipeline(events, withoutSummary, report, { end: false })
}

await round(
  files.filter((file) => !ALONE.test(file) && !LAST.test(file)),
  2,
)
await round(
  files.filter((file) => ALONE.test(file)),
  1,
)
await round(
  files.filter((file) => LAST.test(file)),
  1,
)
const startedFile = join(ROOT, files[0]!)
for (const [name, count] of totals) {
  report.write({
    type: 'test:diagnostic',
    data: { nesting: 0, message: `${name} ${count}`, level: 'info', file: startedFile, line: 1, column: 1 },
  })
}
process.exitCode = (totals.get('fail') ?? 0) + (totals.get('cancelled') ?? 0) === 0 ? 0 : 1
report.end()
