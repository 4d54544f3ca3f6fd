import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { floorTo, GRAIN_MS } from '../../domain/rollups.ts'
import { rollUp } from '../../storage/rollups.ts'
import { startApi, type Harness } from './harness.ts'
import { createRecorded, type Recorded } from './recorded.ts'

const { minute: MINUTE, hour: HOUR, day: DAY_MS } = GRAIN_MS

let api: Harness
let app: string
let endpoint: string
let other: string
let attempt: Recorded['attempt']
let message: string
before(async () => {
  api = await startApi()
  let publish
  ;({ app, endpoint, other, attempt, publish } = await createRecorded(api))
  message = await publish()
})
after(() => api.close())

const get = async (path: string, query: Readonly<Record<string, string>> = {}) =>
  api.call('GET', `/app/${app}${path}?${new URLSearchParams(query).toString()}`)
const iso = (ms: number) => new Date(ms).toISOString()

interface Point {
  readonly at: string
  readonly attempts: number
  readonly delivered: number
  readonly failed: number
  readonly deadLetters: number
  readonly responseMs: { readonly mean: number; readonly p50: number } | null
}

async function rollUpFrom(ms: number, nowMs = Date.now()): Promise<void> {
  await api.pool.query('UPDATE rollup_progress SET begins = $1, through = $1', [new Date(ms)])
  while ((await rollUp(api.pool, nowMs)) !== undefined);
}

test('the statistics of an endpoint are the same before and after attempts are rolled up, whatever range is asked for', async () => {
  const nowMs = Date.now()
  const ages = [0, 30_000, 5 * MINUTE, 61 * MINUTE, 5 * HOUR, 26 * HOUR, 3 * DAY_MS, 6 * DAY_MS, 9 * DAY_MS, 27 * DAY_MS]
  for (const [i, age] of ages.entries()) {
    for (let n = 0; n <= i; n++)
      await attempt({ messageId: message, at: nowMs - age - n, status: n % 2 === 0 ? 0 : 2, code: n % 2 === 0 ? 200 : 500 })
    await attempt({ messageId: message, at: nowMs - age, endpointId: other })
  }
  const edges = ages.flatMap((age) => [nowMs - age - 2, nowMs - age + 1])
  const ranges: Readonly<Record<string, string>>[] = [
    {},
    { since: iso(nowMs - 28 * DAY_MS) },
    { until: iso(nowMs) },
    { until: iso(nowMs - 3 * HOUR) },
  ]
  for (const since of edges) for (const until of edges) if (since < until) ranges.push({ since: iso(since), until: iso(until) })
  const all = async () => {
    const answers: unknown[] = []
    for (const range of ranges) answers.push((await get(`/endpoint/${endpoint}/stats`, range)).json)
    return answers
  }
  const raw = await all()
  assert.deepEqual(raw[0], { success: 30, fail: 25, pending: 0, sending: 0, canceled: 0 })
  // Rolled up since some days ago, as after an upgrade, then since a month.
  await rollUpFrom(floorTo('day', nowMs) - 6 * DAY_MS)
  assert.deepEqual(await all(), raw)
  await rollUpFrom(floorTo('day', nowMs) - 28 * DAY_MS)
  assert.deepEqual(await all(), raw)
})

test('histories tell what endpoints and their application did, by minute, hour and day', async () => {
  const nowMs = Date.now()
  const own = (await api.svix.application.create({ name: 'Own' })).id
  const [one, two] = [
    (await api.svix.endpoint.create(own, { url: 'https://example.com/1' })).id,
    (await api.svix.endpoint.create(own, { url: 'https://example.com/2' })).id,
  ]
  const { id: messageId } = await api.svix.message.create(own, { eventType: 'x', payload: {} })
  const hourMs = floorTo('hour', nowMs) - 3 * HOUR
  await attempt({ messageId, endpointId: one, at: hourMs })
  await attempt({ messageId, endpointId: one, at: hourMs + 59 * MINUTE, status: 2, code: 500, nextAt: new Date() })
  await attempt({ messageId, endpointId: two, at: hourMs + HOUR, status: 2, code: 500 })
  await rollUpFrom(floorTo('day', nowMs) - DAY_MS)
  const history = async (path: string, query: Readonly<Record<string, string>>) => {
    const { status, json } = await api.call('GET', `/app/${own}${path}/stats/history?${new URLSearchParams(query).toString()}`)
    assert.equal(status, 200)
    return json as unknown as { since: string; until: string; grain: string; data: Point[] }
  }
  const hours = await history('', { since: iso(hourMs + 5), until: iso(hourMs + HOUR + 1) })
  assert.deepEqual([hours.grain, hours.since, hours.until], ['hour', iso(hourMs), iso(hourMs + 2 * HOUR)])
  const response = { mean: 12, p50: 18, p95: 24, p99: 25 }
  assert.deepEqual(hours.data, [
    { at: iso(hourMs), attempts: 2, delivered: 1, failed: 0, deadLetters: 0, responseMs: response },
    { at: iso(hourMs + HOUR), attempts: 1, delivered: 0, failed: 1, deadLetters: 0, responseMs: response },
  ])
  const minutes = await history(`/endpoint/${one}`, { grain: 'minute', since: iso(hourMs), until: iso(hourMs + HOUR) })
  assert.deepEqual(
    minutes.data.map(({ at, attempts }) => [at, attempts]),
    [
      [iso(hourMs), 1],
      [iso(hourMs + 59 * MINUTE), 1],
    ],
  )
  const days = await history('', { grain: 'day' })
  assert.equal(
    days.data.reduce((sum, { attempts }) => sum + attempts, 0),
    3,
  )
  assert.equal((await history('', {})).until, iso(floorTo('minute', nowMs - 5000)))
  assert.deepEqual(
    (await history(`/endpoint/${two}`, { grain: 'hour', since: '2100-01-01T00:00:00Z', until: '2100-01-02T00:00:00Z' })).data,
    [],
  )
})

test('a history of too many points, of another grain or backwards is refused', async () => {
  const codes = async (query: Readonly<Record<string, string>>) => {
    const { status, json } = await get('/stats/history', query)
    return [status, json.code]
  }
  assert.deepEqual(await codes({ grain: 'minute', since: iso(Date.now() - 2 * DAY_MS) }), [400, 'invalid_range'])
  assert.deepEqual(await codes({ since: iso(Date.now()), until: iso(Date.now() - DAY_MS) }), [400, 'invalid_range'])
  assert.deepEqual(await codes({ grain: 'week' }), [400, 'generic_error'])
  assert.equal((await api.call('GET', `/app/${app}/endpoint/none/stats/history`)).status, 404)
})
