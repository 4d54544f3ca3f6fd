import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pino from 'pino'
import { createAdmission, type Admission } from '../../activities/admission.ts'
import { readConfig } from '../../config/index.ts'
import { newId } from '../../domain/ids.ts'
import { createCipher } from '../../storage/cipher.ts'
import { createConfigCache, type CachedEndpoint } from '../../storage/config-cache.ts'
import { openBreaker } from '../../storage/endpoint-state.ts'
import { createEndpointStates, type EndpointStates } from '../../storage/endpoint-states.ts'
import { createPool } from '../../storage/pool.ts'
import { createTokenBuckets } from '../../storage/token-buckets.ts'
import { createStorage, type Storage } from '../storage/rows.ts'

let storage: Storage
let states: EndpointStates
let admission: Admission
const log = pino({ level: 'silent' })
const { ramp, retryBudget } = readConfig({}).endpointHealth

before(async () => {
  storage = await createStorage()
  await storage.pool.query(`INSERT INTO application (id, org_id, name) VALUES ('app_1', 'org_1', 'one')`)
  states = await createEndpointStates({ pool: storage.pool, log })
  admission = createAdmission({ states, buckets: createTokenBuckets(storage.pool), ramp, retryBudget })
})
after(async () => {
  await states.stop()
  await storage.drop()
})

async function endpoint(throttleRate: number | null): Promise<CachedEndpoint> {
  const id = newId('ep')
  await storage.pool.query(`INSERT INTO endpoint (id, app_id, url, throttle_rate) VALUES ($1, 'app_1', 'https://example.com', $2)`, [
    id,
    throttleRate,
  ])
  const cipher = createCipher('an encryption key of the tests, long enough')
  const { byId } = await createConfigCache({ pool: storage.pool, cipher, log }).endpoints('app_1')
  return byId.get(id)!
}

test('a first request to an endpoint without a state and a limit is admitted at once, though Postgres is away', async () => {
  const away = createPool(storage.url, 1)
  await away.end()
  const alone = createAdmission({ states, buckets: createTokenBuckets(away), ramp, retryBudget })
  const plain = await endpoint(null)
  assert.equal(alone.check(plain, 'first'), undefined)
  assert.equal(alone.check(plain, 'mailbox'), undefined)
})

test('while a breaker is open nobody is admitted before its end, and while it is probed only the mailbox', async () => {
  const broken = await endpoint(null)
  await openBreaker(storage.pool, broken.id, 60_000, { successRate: 0 })
  const until = async (breaker: string) => {
    void states.changed(broken.id)
    while (states.get(broken.id)?.breaker !== breaker) await new Promise((resolve) => setImmediate(resolve))
  }
  await until('open')
  for (const purpose of ['first', 'retry', 'mailbox'] as const) {
    assert.equal((await admission.check(broken, purpose))?.untilMs, states.get(broken.id)?.untilMs)
  }
  await storage.pool.query(`UPDATE endpoint_state SET breaker = 'half-open', until = NULL`)
  await until('half-open')
  assert.ok((await admission.check(broken, 'first')) !== undefined)
  assert.ok((await admission.check(broken, 'retry')) !== undefined)
  assert.equal(admission.check(broken, 'mailbox'), undefined)
})

test('a limited endpoint admits its rate, and holds the others one after the other', async () => {
  const limited = await endpoint(10)
  const answers = await Promise.all(Array.from({ length: 6 }, async () => admission.check(limited, 'first')))
  const held = answers.filter((answer) => answer !== undefined)
  // A fifth of a second's tokens are there at the beginning.
  assert.equal(held.length, 4)
  const times = held.map(({ untilMs }) => untilMs)
  assert.deepEqual(
    times,
    times.toSorted((a, b) => a - b),
  )
  assert.equal(new Set(times).size, 4)
})
