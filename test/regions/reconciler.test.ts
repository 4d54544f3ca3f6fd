import assert from 'node:assert/strict'
import { after, afterEach, before, test, type TestContext } from 'node:test'
import { Svix } from 'svix'
import { eventually } from '../chaos/eventually.ts'
import { publishDuring } from '../chaos/scenario.ts'
import { setStage, type Stage } from '../chaos/stage.ts'
import { startReceiver, type Received, type Receiver } from '../support/receiver.ts'

const MESSAGES = 40
const SETTLED_WITHIN_MS = 180_000

interface Counts {
  readonly messages: number
  readonly put: number
  readonly parked: number
  readonly carried: number
  readonly changed: number
  readonly mailboxes: number
  readonly tasks: number
}

let stage: Stage
before(async () => {
  stage = await setStage({
    env: {
      // The first retry of what fails is the Temporal server's, and comes after the loss.
      TIDINGS_RETRY_SCHEDULE: '15,15,600',
      TIDINGS_HEALTH_MIN_ATTEMPTS: '10',
      TIDINGS_BREAKER_OPEN_MS: '4000',
      TIDINGS_RETRY_RATE: '1000',
      TIDINGS_RETRY_BURST: '1000',
      TIDINGS_RAMP_START: '500',
    },
  })
})
afterEach(() => stage.endAll())
after(() => stage.close())

/** Everything accepted until now. */
async function reconcile(...options: string[]): Promise<Counts> {
  const until = new Date().toISOString()
  const command = stage.command('cli/reconcile.ts', ['--since', '1h', '--until', until, '--json', ...options])
  assert.equal(await command.ended, 0, command.stderr())
  return JSON.parse(command.stdout()) as Counts
}

/** An application with a receiver for each way in which deliveries can be under way. */
interface Ways {
  readonly appId: string
  readonly endpoints: Readonly<Record<Way, string>>
  readonly receivers: Readonly<Record<Way, Receiver>>
  /** From now on all answer 200. */
  mend(): void
  close(): Promise<void>
}

const WAYS = ['healthy', 'retrying', 'broken', 'ordered', 'hanging'] as const
type Way = (typeof WAYS)[number]

const numberOf = (one: Received) => (JSON.parse(one.body) as { n: number }).n

async function createWays(): Promise<Ways> {
  const svix = new Svix(stage.token, { serverUrl: stage.apiUrl })
  const { id: appId } = await svix.application.create({ name: 'reconciled' })
  let mended = false
  const answers: Record<Way, (one: Received) => { status: number } | 'hang'> = {
    healthy: () => ({ status: 200 }),
    // Too few failures in a row for its breaker.
    retrying: (one) => ({ status: mended || numberOf(one) % 4 !== 0 ? 200 : 500 }),
    broken: () => ({ status: mended ? 200 : 500 }),
    ordered: (one) => ({ status: mended || numberOf(one) < 5 ? 200 : 500 }),
    hanging: () => (mended ? { status: 200 } : 'hang'),
  }
  const receivers = {} as Record<Way, Receiver>
  const endpoints = {} as Record<Way, string>
  for (const way of WAYS) {
    receivers[way] = await startReceiver(answers[way])
    const more = way === 'ordered' ? { ordering: 'fifo' } : {}
    const response = await fetch(`${stage.apiUrl}/api/v1/app/${appId}/endpoint`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stage.token}` },
      body: JSON.stringify({ url: `${receivers[way].url}/${way}`, ...more }),
    })
    assert.equal(response.status, 201)
    endpoints[way] = ((await response.json()) as { id: string }).id
  }
  return {
    appId,
    endpoints,
    receivers,
    mend: () => void (mended = true),
    close: async () => void (await Promise.all(Object.values(receivers).map((receiver) => receiver.close()))),
  }
}

async function publish(appId: string, from: number, count: number): Promise<void> {
  const messages = Array.from({ length: count }, (_, i) => ({ eventType: 'step.taken', payload: { n: from + i } }))
  const response = await fetch(`${stage.apiUrl}/api/v1/app/${appId}/msg/batch`, {
    method: 'POST',
    headers: { authorization: `Bearer ${stage.token}` },
    body: JSON.stringify({ messages }),
  })
  assert.equal(response.status, 202)
}

interface Standing {
  readonly delivered: number
  readonly retrying: number
  readonly parked: number
  readonly outbox: number
}

async function standing(appId: string, endpointId?: string): Promise<Standing> {
  const { rows } = await stage.pool.query<Standing>(
    `SELECT (SELECT count(*)::int FROM (SELECT DISTINCT message_id, endpoint_id FROM attempt
         WHERE app_id = $1 AND status = 0 AND ($2::text IS NULL OR endpoint_id = $2)) pairs) AS delivered,
       (SELECT count(*)::int FROM delivery WHERE app_id = $1 AND state = 'retrying' AND ($2::text IS NULL OR endpoint_id = $2)) AS retrying,
       (SELECT count(*)::int FROM delivery WHERE app_id = $1 AND state = 'parked' AND ($2::text IS NULL OR endpoint_id = $2)) AS parked,
       (SELECT count(*)::int FROM outbox WHERE app_id = $1) AS outbox`,
    [appId, endpointId ?? null],
  )
  return rows[0]!
}

/** With what the service has published by itself. */
async function everything(): Promise<{ messages: number; retrying: number }> {
  const { rows } = await stage.pool.query<{ messages: number; retrying: number }>(
    `SELECT (SELECT count(*)::int FROM message) AS messages, (SELECT count(*)::int FROM delivery WHERE state = 'retrying') AS retrying`,
  )
  return rows[0]!
}

/** Publishes, and waits until each way is what it is called: then every process dies, and Temporal with all that it knows. */
async function loseTemporal(t: TestContext, ways: Ways): Promise<void> {
  const { appId, endpoints, receivers } = ways
  await publish(appId, 0, MESSAGES)
  let seen: unknown
  await eventually({ what: 'every way', withinMs: SETTLED_WITHIN_MS, told: () => JSON.stringify(seen) }, async () => {
    const each = Object.fromEntries(await Promise.all(WAYS.map(async (way) => [way, await standing(appId, endpoints[way])] as const)))
    seen = each
    return (
      each['healthy']!.delivered === MESSAGES &&
      each['retrying']!.retrying === MESSAGES / 4 &&
      each['retrying']!.delivered === MESSAGES - MESSAGES / 4 &&
      each['broken']!.parked >= MESSAGES / 2 &&
      each['broken']!.parked + each['broken']!.retrying === MESSAGES &&
      each['ordered']!.parked === MESSAGES - 5 &&
      receivers.hanging.received.length > 0 &&
      each['healthy']!.outbox === 0
    )
  })
  t.diagnostic(`before the loss: ${JSON.stringify(seen)}, ${receivers.hanging.received.length} requests hang`)
  await stage.endAll()
  await stage.killTemporal()
  stage.eraseTemporal()
  await stage.startTemporal()
}

async function untilDelivered(ways: Ways): Promise<void> {
  let seen: unknown
  const what = 'the delivery of everything'
  await eventually({ what, withinMs: SETTLED_WITHIN_MS, told: () => `${JSON.stringify(seen)}\n${stage.logs()}` }, async () => {
    const now = await standing(ways.appId)
    seen = now
    return now.delivered === MESSAGES * WAYS.length && now.retrying === 0 && now.parked === 0 && now.outbox === 0
  })
}

/** Every message has arrived; again only what was answered with a failure, or not at all. */
async function assertArrivals({ appId, receivers }: Ways): Promise<void> {
  const arrivals = (way: Way) => receivers[way].received.map(numberOf)
  const all = Array.from({ length: MESSAGES }, (_, n) => n)
  assert.deepEqual(
    arrivals('healthy').sort((a, b) => a - b),
    all,
    'what was recorded as delivered is not sent again',
  )
  for (const way of WAYS)
    assert.deepEqual(
      [...new Set(arrivals(way))].sort((a, b) => a - b),
      all,
      way,
    )
  const ordered = arrivals('ordered')
  assert.deepEqual([...new Set(ordered)], all, 'the order is kept')
  const { rows } = await stage.pool.query<{ pair: string }>(
    `SELECT message_id || ' ' || endpoint_id AS pair FROM attempt WHERE app_id = $1 AND status = 0 GROUP BY message_id, endpoint_id HAVING count(*) > 1`,
    [appId],
  )
  assert.deepEqual(rows, [])
}

test('with an empty Temporal everything undelivered is delivered, nothing else is sent, and a second run changes nothing', async (t) => {
  await stage.startAll()
  const ways = await createWays()
  try {
    await loseTemporal(t, ways)
    const before = await standing(ways.appId)
    const dry = await reconcile('--dry-run')
    assert.deepEqual(await standing(ways.appId), before, 'a dry run changes nothing')
    const hanging = await standing(ways.appId, ways.endpoints.hanging)
    const hung = MESSAGES - hanging.parked - hanging.retrying
    const all = await everything()
    assert.deepEqual([dry.messages, dry.put, dry.parked, dry.carried, dry.changed], [all.messages, hung, all.retrying, 0, 0])
    ways.mend()
    const done = await reconcile()
    t.diagnostic(`reconciled: ${JSON.stringify(done)}`)
    assert.deepEqual([done.messages, done.put, done.parked, done.carried, done.changed], [all.messages, hung, all.retrying, 0, 0])
    assert.ok(done.mailboxes > 0)
    const again = await reconcile()
    assert.deepEqual([again.put, again.parked], [0, 0], 'what it has put in is known')
    await stage.startAll()
    await untilDelivered(ways)
    await assertArrivals(ways)
    assert.deepEqual(await reconcile().then(({ put, parked, mailboxes }) => [put, parked, mailboxes]), [0, 0, 0])
    // Attempts are counted on: what failed once was delivered at its second attempt.
    const { rows } = await stage.pool.query<{ attempts: number }>(
      'SELECT DISTINCT count(*)::int AS attempts FROM attempt WHERE endpoint_id = $1 GROUP BY message_id ORDER BY 1',
      [ways.endpoints.retrying],
    )
    assert.deepEqual(
      rows.map((row) => row.attempts),
      [1, 2],
    )
  } finally {
    await ways.close()
  }
})

test('as a background task the service does the same by itself, and starts lost tasks again', async (t) => {
  await stage.startAll()
  const ways = await createWays()
  try {
    await loseTemporal(t, ways)
    ways.mend()
    const register = stage.command('cli/reconcile.ts', ['--since', '1h', '--until', new Date().toISOString(), '--task'])
    assert.equal(await register.ended, 0, register.stderr())
    const taskId = register.stdout().trim()
    assert.match(taskId, /^qtask_/)
    await stage.startAll()
    await untilDelivered(ways)
    await assertArrivals(ways)
    const { rows } = await stage.pool.query<{ status: string; data: Counts }>('SELECT status, data FROM background_task WHERE id = $1', [
      taskId,
    ])
    t.diagnostic(`task: ${JSON.stringify(rows[0])}`)
    assert.equal(rows[0]!.status, 'finished')
    assert.ok(rows[0]!.data.put > 0 && rows[0]!.data.parked > 0)
  } finally {
    await ways.close()
  }
})

test('on a healthy and busy system it finds nothing to do, and nothing is sent twice', async (t) => {
  await stage.startAll()
  const seen: Counts[] = []
  const { account, report } = await publishDuring(t, stage, 40, async () => {
    for (let run = 0; run < 3; run++) seen.push(await reconcile())
  })
  t.diagnostic(`published ${report.accepted}; ${JSON.stringify(seen.map(({ messages, carried }) => ({ messages, carried })))}`)
  for (const { put, parked, changed, tasks } of seen) assert.deepEqual([put, parked, changed, tasks], [0, 0, 0, 0])
  assert.ok(seen.some(({ messages }) => messages > 0))
  assert.deepEqual([...account.duplicates], [])
  assert.equal(account.unrecorded, 0)
})
