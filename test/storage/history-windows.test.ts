import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { lowestIdAt, newId } from '../../domain/ids.ts'
import { listAttempts } from '../../storage/history/attempts.ts'
import { listAttemptedMessages } from '../../storage/history/destinations.ts'
import { listMessages } from '../../storage/history/messages.ts'
import type { Page, PageOf } from '../../storage/page.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { createTestDatabase, type TestDatabase } from '../support/postgres.ts'

const DAY_MS = 86_400_000
const nowMs = Date.now()
/** On both sides of where a statement ends and the next begins. */
const AGES = [0, 0.01, 0.9, 0.99, 1.01, 1.5, 5, 7.9, 7.99, 8.01, 8.5, 20, 20.1, 60, 89]
const appId = newId('app')
const endpointId = newId('ep')
const afterId = (prefix: 'msg' | 'atmpt') => lowestIdAt(prefix, nowMs - 90 * DAY_MS)
let database: TestDatabase
let pool: Pool

before(async () => {
  database = await createTestDatabase()
  pool = createPool(database.url, 2)
  for (const atMs of AGES.map((age) => nowMs - age * DAY_MS)) {
    const messageId = newId('msg', atMs)
    await pool.query(
      `INSERT INTO message (id, app_id, event_type, payload, created_at, expires_at) VALUES ($1, $2, 'a', '{}', $3, now() + interval '1 day')`,
      [messageId, appId, new Date(atMs)],
    )
    await pool.query(
      `INSERT INTO attempt (message_id, id, endpoint_id, app_id, event_type, url, status, response_code, response_body, duration_ms, trigger, group_id,
         run_id, created_at) VALUES ($1, $2, $3, $4, 'a', 'https://example.com', 0, 200, '', 1, 0, $1, gen_random_uuid(), $5)`,
      [messageId, newId('atmpt', atMs), endpointId, appId, new Date(atMs)],
    )
  }
})

after(async () => {
  await pool.end()
  await database.drop()
})

type List = (page: Page) => Promise<PageOf<{ readonly id: string }>>
const options = { withPayload: false }
const lists: Readonly<Record<string, List>> = {
  'messages of an application': (page) => listMessages(pool, appId, { afterId: afterId('msg') }, page, options),
  'attempts of an endpoint': (page) => listAttempts(pool, appId, { endpointId, afterId: afterId('atmpt') }, page),
  'messages of an endpoint': (page) => listAttemptedMessages(pool, appId, { endpointId, afterId: afterId('msg') }, page, options),
  'messages of an endpoint that were delivered': (page) =>
    listAttemptedMessages(pool, appId, { endpointId, afterId: afterId('msg'), keep: { status: 0 } }, page, options),
}

/** All pages put together, in the list's order. */
async function walk(list: List, page: Pick<Page, 'limit' | 'order' | 'backwards'>): Promise<string[]> {
  const seen: string[] = []
  let from: string | undefined
  for (let done = false; !done;) {
    const { rows, done: isLast } = await list({ ...page, from })
    const ids = rows.map(({ id }) => id)
    if (page.backwards === true) seen.unshift(...ids)
    else seen.push(...ids)
    from = page.backwards === true ? ids[0] : ids.at(-1)
    done = isLast
  }
  return seen
}

for (const [name, list] of Object.entries(lists)) {
  test(`${name}: pages of any length, in both orders and both ways, are those of the whole list`, async () => {
    for (const order of ['descending', 'ascending'] as const) {
      const whole = (await list({ limit: 100, order })).rows.map(({ id }) => id)
      assert.equal(whole.length, AGES.length)
      assert.deepEqual(order === 'ascending' ? whole : [...whole].reverse(), [...whole].sort())
      for (const limit of [1, 2, 3, 4, 7, AGES.length]) {
        assert.deepEqual(await walk(list, { limit, order }), whole, `${order}, ${limit}, forwards`)
        assert.deepEqual(await walk(list, { limit, order, backwards: true }), whole, `${order}, ${limit}, backwards`)
      }
    }
  })
}
