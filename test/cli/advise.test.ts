import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { AdviceReport } from '../../cli/advise/report.ts'
import { newId } from '../../domain/ids.ts'
import { acceptMessages } from '../../storage/accept.ts'
import { createRecorder } from '../../storage/recorder.ts'
import { rollUp } from '../../storage/rollups.ts'
import { addEndpoint, addSamples } from '../storage/scaling-samples.ts'
import { createStorage, newMessage, newRecord, type Storage } from '../storage/rows.ts'
import { spawnScript } from '../support/processes.ts'

const HOUR_MS = 3_600_000
let storage: Storage
before(async () => {
  storage = await createStorage()
})
after(() => storage.drop())

async function advised(...args: readonly string[]): Promise<string> {
  const command = spawnScript('cli/advise.ts', args, { env: { DATABASE_URL: storage.url } })
  assert.equal(await command.ended, 0, command.stderr())
  return command.stdout()
}

test('without anything recorded nothing is advised', async () => {
  const text = await advised()
  assert.match(text, /^No sample of the autoscaler/m)
  assert.match(text, /^No endpoint is in the wrong lane/m)
  assert.match(text, /^Saves \$0 a month/m)
})

test('recorded use becomes advice, each with what it saves', async () => {
  const { pool } = storage
  // Two days: 200 workers, at 40% by day and 4% at night.
  const endMs = Date.now()
  const times = Array.from({ length: 2 * 24 * 30 }, (_, i) => endMs - i * 120_000)
  const isNight = (atMs: number) => new Date(atMs).getUTCHours() < 8
  await addSamples(
    pool,
    'local',
    times.map((atMs) => ({ atMs, workers: 200, utilisation: isNight(atMs) ? 0.04 : 0.4 })),
  )
  const slow = await addEndpoint(pool)
  const recorder = createRecorder({ pool, onWake: () => undefined })
  const messages = Array.from({ length: 100 }, (_, i) => endMs - (i + 1) * 60_000).map((createdAtMs) =>
    newMessage({ id: newId('msg', createdAtMs), createdAtMs, expiresAtMs: endMs + HOUR_MS }),
  )
  await acceptMessages(pool, messages, false, 0)
  await Promise.all(
    messages.map(({ id, createdAtMs }) =>
      recorder.record(
        newRecord(
          { state: 'delivered', hadRow: false },
          { id: newId('atmpt', createdAtMs), messageId: id, endpointId: slow, durationMs: 8000, createdAtMs },
        ),
      ),
    ),
  )
  await pool.query(`UPDATE rollup_progress SET begins = begins - interval '2 days', through = begins - interval '2 days'`)
  while ((await rollUp(pool)) !== undefined);
  const report = JSON.parse(await advised('--since', '2d', '--json')) as AdviceReport
  const [local] = report.pools
  const price = report.prices.worker
  assert.deepEqual(
    local!.advice!.map(({ kind, from, to, saving }) => [kind, from, Number(to.toFixed(2)), Number((saving / price).toFixed(2))]),
    [
      ['over-provisioned', 200, 115, 85],
      // 12 for eight hours, and 115 for sixteen.
      ['off-peak', 115, 80.67, 34.33],
      ['reserved', 12, 12, 4.8],
      ['spot', 80.66666666666667 - 12, 68.67, 48.07],
    ],
  )
  assert.deepEqual(
    report.endpoints.map(({ kind, endpointId, p95Ms }) => [kind, endpointId, p95Ms]),
    // All are in the class from 5 to 10 s.
    [['slow-lane', slow, 9750]],
  )
  const text = await advised('--since', '2d')
  assert.match(text, /^Pool local: 200 workers on average, busy for 28% of the time/m)
  assert.match(text, /over-provisioned: 115 of 200/)
  assert.match(text, /\(0:00 12, 8:00 115\)/)
  assert.match(text, new RegExp(`${slow} answers in 9,750 ms at p95 in the fast lane`))
})

test('what cannot be advised on is named in one line', async () => {
  const cases: readonly [args: readonly string[], env: Record<string, string | undefined>, expected: RegExp][] = [
    [['--since', '7'], {}, /^tidings: --since 7: must be hours, days or weeks/],
    [['--since', '91d'], {}, /90 days at most/],
    [['--since', '0d'], {}, /--since 0d/],
    [['--prices', '/nowhere.json'], {}, /--prices \/nowhere\.json cannot be read/],
    [[], { DATABASE_URL: 'postgres://a:hidden@127.0.0.1:1/c' }, /^tidings: Postgres at 127\.0\.0\.1:1 cannot be read/],
    [
      [],
      { DATABASE_URL: undefined, TIDINGS_DATA_DIR: '/nowhere' },
      /^tidings: set DATABASE_URL: there is no database of npm start in \/nowhere/,
    ],
  ]
  for (const [args, env, expected] of cases) {
    const command = spawnScript('cli/advise.ts', args, { env: { DATABASE_URL: storage.url, ...env } })
    assert.equal(await command.ended, 1, args.join(' '))
    assert.match(command.stderr(), expected)
    assert.match(command.stderr(), /^[^\n]+\n$/)
    assert.doesNotMatch(command.stderr(), /hidden/)
  }
})
