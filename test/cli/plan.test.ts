import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { PlanReport } from '../../cli/plan/report.ts'
import { problemsOf } from '../bench/well-formed.ts'
import { spawnScript } from '../support/processes.ts'
import { createScratch } from '../support/scratch.ts'

const LOAD = ['--webhooks', '1e6', '--events-per-day', '1e8', '--fan-out', '25']
const PRICES = join(import.meta.dirname, '..', '..', 'deploy', 'prices.json')

async function planned(...args: readonly string[]): Promise<string> {
  const command = spawnScript('cli/plan.ts', args)
  assert.equal(await command.ended, 0, command.stderr())
  assert.equal(command.stderr(), '')
  return command.stdout()
}

const jsonOf = async (...args: readonly string[]) => JSON.parse(await planned(...args, '--format', 'json')) as PlanReport

function scratchFile(t: TestContext, name: string, content?: string): string {
  const scratch = createScratch('plan')
  t.after(() => scratch.remove())
  const path = join(scratch.path, name)
  if (content !== undefined) writeFileSync(path, content)
  return path
}

test('the plan that was asked for, beside what Tidings needs by what was measured', async () => {
  const text = await planned(...LOAD)
  assert.match(text, /Unit costs: npm run bench of \d{4}-\d\d-\d\dT\d\d:\d\dZ/)
  assert.match(text, /^1 +1M +100M +2\.5B +28,935 +\$144,000 +\$405,093 +\$[\d,]+$/m)
  assert.match(text, /^3 +3M +300M +7\.5B +86,806 +\$432,000 +\$1,215,278 +\$[\d,]+$/m)
  assert.match(text, /^workers \(--role all\)[^\d]+\d+ to \d+ +\d+ to \d+ +\d+ to \d+$/m)
  assert.match(text, /^workers +10 +[\d.]+ +290 +\d+$/m)
  assert.match(text, /^- the monthly cost: .*28,935 a second/m)
})

test('JSON has everything, and its costs and prices make the same plan again', async (t) => {
  const report = await jsonOf(...LOAD)
  assert.equal(report.years.length, 3)
  const costs = scratchFile(t, 'costs.json', JSON.stringify(report.costs.units))
  const prices = scratchFile(t, 'prices.json', JSON.stringify(report.prices.each))
  const again = await jsonOf(...LOAD, '--costs', costs, '--prices', prices)
  assert.deepEqual([again.years, again.request], [report.years, report.request])
  assert.deepEqual([again.costs.source, again.prices.source], [costs, prices])
})

test('every option changes the plan', async () => {
  const usual = JSON.stringify((await jsonOf()).years)
  const options = [
    ['--webhooks', '2e6'],
    ['--events-per-day', '2e8'],
    ['--fan-out', '5'],
    ['--payload-bytes', '5000'],
    ['--peak-factor', '1'],
    ['--latency-ms', '2000'],
    ['--failure-percent', '50'],
    ['--retention-days', '90'],
    ['--years', '1'],
    ['--growth', '1,1.5,4'],
    ['--in-flight', '1000'],
    ['--partitions', '1', '--failure-percent', '40'],
    ['--commit-ms', '500'],
  ]
  const plans = await Promise.all(options.map(async (args) => JSON.stringify((await jsonOf(...args)).years)))
  for (const [i, plan] of plans.entries()) assert.notEqual(plan, usual, options[i]!.join(' '))
})

test('HTML is one page with tables and plots, and is written where it is told', async (t) => {
  const path = scratchFile(t, 'plan.html')
  assert.equal(await planned(...LOAD, '--format', 'html', '--out', path), '')
  const html = readFileSync(path, 'utf8')
  assert.equal((html.match(/<svg /g) ?? []).length, 1)
  assert.equal((html.match(/<table>/g) ?? []).length, 6)
  assert.doesNotMatch(html, /NaN|undefined|(src|href)="/)
  const body = html.slice(html.indexOf('<body>'), html.indexOf('</html>'))
  assert.deepEqual(problemsOf(body.replaceAll(/<style>[\s\S]*?<\/style>/g, '')), [])
})

test('what cannot be planned with is named in one line', async (t) => {
  const misspelt = scratchFile(
    t,
    'a.json',
    JSON.stringify({ ...(JSON.parse(readFileSync(PRICES, 'utf8')) as object), vcpu: 'cheap', cpu: 1 }),
  )
  const broken = scratchFile(t, 'b.json', '{')
  const other = scratchFile(t, 'c.json', '{"results":[{"peer":"tidings"}]}')
  const cases: readonly [args: readonly string[], expected: RegExp][] = [
    [['--webhooks', 'many'], /^tidings: --webhooks must be a number, not "many"\n$/],
    [['--webhooks', ''], /--webhooks must be a number, not ""/],
    [['--events-per-day', '-1', '--fan-out', '1e9'], /Option '--events-per-day' argument is ambiguous|--events-per-day must be from/],
    [
      ['--events-per-day=-1', '--fan-out', '1e9'],
      /--events-per-day must be from 1 to .*, not -1; --fan-out must be from 0 to 20000, not 1000000000/,
    ],
    [['--growth', '1,x,3'], /--growth must be a number, not "x"/],
    [['--growth', '1,2'], /--growth must have a number for each of the 3 years, not 2/],
    [['--format', 'pdf'], /--format pdf: must be text, json, html/],
    [['--speed', '1'], /Unknown option '--speed'/],
    [['--prices', misspelt], /--prices .*a\.json: vcpu must be a number, not "cheap"; cpu is not known/],
    [['--prices', '/nowhere.json'], /--prices \/nowhere\.json cannot be read/],
    [['--costs', broken], /--costs .*b\.json is no JSON/],
    [['--costs', other], /--costs .*c\.json: results must be those of npm run bench/],
    [['--out', '/nowhere/plan.txt'], /--out \/nowhere\/plan\.txt cannot be written/],
  ]
  for (const [args, expected] of cases) {
    const command = spawnScript('cli/plan.ts', args)
    assert.equal(await command.ended, 1, args.join(' '))
    assert.match(command.stderr(), expected)
    assert.match(command.stderr(), /^[^\n]+\n$/)
  }
})
