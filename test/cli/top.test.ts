import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { freePort } from '../../cli/embedded/ports.ts'
import { figuresOf, type Figures, type Look } from '../../cli/top/figures.ts'
import { parseMetrics } from '../../cli/top/samples.ts'
import { screen } from '../../cli/top/screen.ts'
import { spawnScript } from '../support/processes.ts'
import { startReceiver, type Receiver } from '../support/receiver.ts'
import { startTestService, type TestService } from '../support/service.ts'

let receiver: Receiver
let service: TestService
let url: string

before(async () => {
  const port = await freePort()
  url = `http://127.0.0.1:${port}/metrics`
  receiver = await startReceiver(({ path }) => ({ status: path === '/fails' ? 500 : 200 }))
  service = await startTestService({ env: { TIDINGS_METRICS_PORT: String(port) } })
})

after(async () => {
  await service?.stop()
  await receiver?.close()
})

const look = (atMs: number, ...texts: string[]): Look => ({
  atMs,
  processes: texts.map((text, i) => ({ url: `http://${i}`, samples: parseMetrics(text) })),
  problems: [],
})

test('samples are read with their labels, comments are not', () => {
  const text = '# HELP a b\na{x="1",y="say \\"hi\\" \\\\ {,}"} 2.5\nb 3\nc{le="+Inf"} +Inf\n'
  assert.deepEqual(parseMetrics(text), [
    { name: 'a', labels: { x: '1', y: 'say "hi" \\ {,}' }, value: 2.5 },
    { name: 'b', labels: {}, value: 3 },
    { name: 'c', labels: { le: '+Inf' }, value: Infinity },
  ])
})

test('rates are taken from one look to the next, over all processes; one that has begun anew counts from 0', () => {
  const counted = (n: number) => `tidings_attempts_total{outcome="delivered"} ${n}\ntidings_attempts_total{outcome="rejected"} ${n / 2}`
  const figures = figuresOf(look(0, counted(100), counted(1000)), look(2000, counted(140), counted(20)))
  // 40 more of the first, 20 of the second since it began; half as many rejected.
  assert.equal(figures.requests, (40 + 20 + 20 + 10) / 2)
  assert.equal(figures.successRate, 0.6667)
  assert.equal(figures.retryRate, 0)
  assert.equal(figures.responseP99, null)
})

test('quantiles are taken within their bucket, and gauges of several processes are not added up', () => {
  const bucket = (le: string, n: number) => `tidings_attempt_duration_seconds_bucket{le="${le}"} ${n}`
  const text = [bucket('0.1', 50), bucket('0.2', 100), bucket('+Inf', 100), 'tidings_queue_rows{queue="outbox"} 7'].join('\n')
  const figures = figuresOf(look(0), look(1000, text, text))
  assert.equal(figures.responseP50, 0.1)
  assert.equal(figures.responseP99, 0.198)
  assert.deepEqual(figures.queues, { outbox: 7 })
})

test('--once --json tells what a real service did', async () => {
  const { id } = await service.svix.application.create({ name: 'watched' })
  const well = await service.svix.endpoint.create(id, { url: `${receiver.url}/well` })
  await service.svix.endpoint.create(id, { url: `${receiver.url}/fails` })
  const top = spawnScript('cli/top.ts', ['--metrics', url, '--metrics', url, '--interval', '3', '--once', '--json'])
  const publishing = setInterval(
    () => void service.svix.message.create(id, { eventType: 'invoice.paid', payload: {} }).catch(() => undefined),
    50,
  )
  const code = await top.ended.finally(() => clearInterval(publishing))
  assert.equal(code, 0, top.stderr())
  const figures = JSON.parse(top.stdout()) as Figures
  assert.equal(figures.processes, 1, 'the same address is one process')
  assert.ok(figures.accepted > 0 && figures.delivered > 0 && figures.requests > 0 && figures.statements > 0)
  assert.ok(figures.responseP99! > 0 && figures.firstRequestP99! > 0 && figures.publishP99! > 0 && figures.statementP99! > 0)
  assert.ok(figures.utilisation[0]! > 0 && figures.utilisation[0]! <= 1)
  assert.deepEqual(Object.keys(figures.queues).sort(), ['mailbox_due', 'mailbox_later', 'outbox'])
  assert.equal(figures.slots['fast']?.max, 100)
  const named = figures.endpoints.find(({ endpoint }) => endpoint === well.id)
  assert.ok(named !== undefined && named.requests > 0 && named.successRate === 1 && named.breaker === 'closed')
  assert.equal(figures.endpoints.at(-1)?.endpoint, 'other')
})

test('without a terminal each look is plain text, until it is told to end', async () => {
  const top = spawnScript('cli/top.ts', ['--metrics', url, '--interval', '0.2'])
  await top.line(/^tidings top .* 1 process, over/)
  await top.line(/^busiest endpoints +req\/s/)
  top.signal('SIGINT')
  assert.equal(await top.ended, 0, top.stderr())
  assert.ok(!top.stdout().includes('\u001B'))
})

test('a process that does not answer is told of beside those that do; where none does it says so in one line', async () => {
  const nobody = `http://127.0.0.1:${await freePort()}/metrics`
  const some = spawnScript('cli/top.ts', ['--metrics', url, '--metrics', nobody, '--interval', '0.1', '--once'])
  assert.equal(await some.ended, 0, some.stderr())
  assert.match(some.stdout(), new RegExp(`${nobody} does not answer`))
  const none = spawnScript('cli/top.ts', ['--metrics', nobody, '--once'])
  assert.equal(await none.ended, 1)
  assert.match(none.stderr(), /^tidings: http:\S+ does not answer .*TIDINGS_METRICS_PORT[^\n]*\n$/)
})

for (const wrong of [['--metrics', 'localhost'], ['--interval', '0'], ['--interval', 'soon'], ['--colour']]) {
  test(`${wrong.join(' ')} is refused`, async () => {
    const top = spawnScript('cli/top.ts', wrong)
    assert.equal(await top.ended, 1)
    assert.match(top.stderr(), /^tidings: [^\n]+\n$/)
  })
}

test('a screen has as many lines as there is room for, and marks in colour what is bad', () => {
  const figures = figuresOf(
    look(0),
    look(
      1000,
      'tidings_attempts_total{outcome="delivered"} 1\ntidings_attempts_total{outcome="rejected"} 9\ntidings_event_loop_busy_seconds_total 1',
    ),
  )
  const whole = screen(figures, { rows: Infinity, colour: false })
  assert.match(whole, /success 10\.0 %/)
  assert.match(whole, /event loops +100\.0 %/)
  assert.ok(screen(figures, { rows: 50, colour: true }).includes('\u001B[31msuccess 10.0 %'))
  assert.equal(screen(figures, { rows: 10, colour: false }).trimEnd().split('\n').length, 9)
})
