import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { hasPrometheus } from '../support/prometheus.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const RULES = 'deploy/prometheus/tidings.rules.yml'
const TESTS = 'deploy/prometheus/tidings.test.yml'
const SEVERITIES = ['page', 'warn', 'info']

interface Alert {
  readonly alert: string
  readonly expr: string
  readonly labels: { readonly severity: string }
  readonly annotations: Readonly<Record<'summary' | 'description' | 'runbook', string>>
}

interface RuleTest {
  readonly promql_expr_test: readonly { readonly expr: string; readonly exp_samples: readonly unknown[] }[]
}

const read = (path: string): string => readFileSync(join(ROOT, path), 'utf8')
const alerts = (parse(read(RULES)) as { groups: readonly { rules: readonly Alert[] }[] }).groups.flatMap(({ rules }) => rules)

function promtool(context: TestContext, ...args: string[]): void {
  if (!hasPrometheus()) return context.skip('promtool is not on this machine')
  const { status, stdout, stderr } = spawnSync('promtool', args, { cwd: ROOT, encoding: 'utf8' })
  assert.equal(status, 0, `${stdout}\n${stderr}`)
}

test('promtool takes the configuration and the rules', (context) => promtool(context, 'check', 'config', 'deploy/prometheus.yml'))

test('each alert fires at what it is for, and not below (promtool)', (context) => promtool(context, 'test', 'rules', TESTS))

for (const { alert, expr, labels, annotations } of alerts) {
  test(`${alert}: it is tried both ways, has a severity, and a runbook`, () => {
    const { tests } = parse(read(TESTS)) as { tests: readonly RuleTest[] }
    const tried = tests.flatMap((one) => one.promql_expr_test).filter((one) => one.expr.includes(`alertname="${alert}"`))
    assert.ok(tried.some(({ exp_samples: fires }) => fires.length > 0))
    assert.ok(tried.some(({ exp_samples: fires }) => fires.length === 0))
    assert.ok(SEVERITIES.includes(labels.severity))
    assert.ok(annotations.summary !== '' && annotations.description !== '')
    assert.equal(annotations.runbook, `docs/runbooks.md#${alert.toLowerCase()}`)
    const section = read('docs/runbooks.md').split(`\n## ${alert}\n`)[1]?.split('\n## ')[0] ?? ''
    assert.ok(section.length > 100, 'the runbook says what to do')
    assert.match(
      read('docs/monitoring.md'),
      new RegExp(`\\[\`${alert}\`\\]\\(runbooks.md#${alert.toLowerCase()}\\)`),
      'the table of alerts has it',
    )
    for (const [metric] of expr.matchAll(/\btidings_\w+/g)) {
      const name = metric.replace(/_bucket$/, '')
      assert.ok(read('docs/monitoring.md').includes(`\`${name}\``), `${name} is described`)
    }
  })
}

test('no runbook is about an alert that is not there', () => {
  const names = alerts.map(({ alert }) => alert)
  const sections = [...read('docs/runbooks.md').matchAll(/^## (.+)$/gm)].map(([, title]) => title)
  assert.deepEqual(sections, names)
})
