import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pino from 'pino'
import type { AttemptInput } from '../../activities/attempt.ts'
import { createBegunAttempts } from '../../activities/begun-attempts.ts'
import { newId } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import { NO_RUN } from '../../domain/outcome.ts'
import { createCipher } from '../../storage/cipher.ts'
import { createConfigCache, type ConfigCache } from '../../storage/config-cache.ts'
import { createMessageCache } from '../../storage/messages.ts'
import { createStorage, newMessage, type Storage } from '../storage/rows.ts'

const cipher = createCipher('a key for tests, 32 characters or more')
const appId = newId('app')
const endpointId = newId('ep')
let storage: Storage
let configCache: ConfigCache

before(async () => {
  storage = await createStorage()
  await storage.pool.query(`INSERT INTO application (id, org_id, name) VALUES ($1, 'org_1', 'test')`, [appId])
  await storage.pool.query('INSERT INTO endpoint (id, app_id, url, headers_cipher) VALUES ($1, $2, $3, $4)', [
    endpointId,
    appId,
    'https://example.com/webhook',
    cipher.encrypt('{}'),
  ])
  configCache = createConfigCache({ pool: storage.pool, cipher, log: pino({ level: 'silent' }) })
})

after(() => storage.drop())

/** Groups of one message, and the runs under which their attempts were recorded: each is answered at once. */
function stage() {
  const messages = createMessageCache()
  const recorded = new Map<string, string>()
  const record = async (input: AttemptInput) => {
    await input.begun
    recorded.set(input.message.id, input.runId)
    return { kind: 'delivered' } as const
  }
  const begun = createBegunAttempts({
    messages,
    configCache,
    stopping: new AbortController().signal,
    sendFast: (input) => Promise.resolve({ sentAtMs: Date.now(), done: record(input), detach: () => undefined }),
  })
  const begin = () => {
    const message = newMessage({ appId })
    const { id } = message
    messages.set(id, message)
    return { id, isBegun: begun.begin(id, [{ endpointId, host: 'example.com', messageIds: [id] }]) }
  }
  return { begun, begin, recorded }
}

test('what was begun is given to the first run that asks, once, and is recorded under it', async () => {
  const { begun, begin, recorded } = stage()
  const { id } = begin()
  assert.equal(begun.take({ groupId: 'another', runId: 'first' }, id, endpointId), undefined)
  const taken = await begun.take({ groupId: id, runId: 'first' }, id, endpointId)
  assert.ok(typeof taken === 'object')
  assert.deepEqual(await taken.done, { kind: 'delivered' })
  assert.equal(recorded.get(id), 'first')
  assert.equal(begun.take({ groupId: id, runId: 'first' }, id, endpointId), undefined)
  assert.equal(begun.take({ groupId: id, runId: 'reset' }, id, endpointId), undefined)
})

test('more groups than may wait for their runs are not begun, until one has been taken over', async () => {
  const { begun, begin } = stage()
  const groups = Array.from({ length: LIMITS.begunGroupsMax }, begin)
  assert.ok(groups.every(({ isBegun }) => isBegun))
  assert.equal(begin().isBegun, false)
  const { id } = groups[7]!
  await begun.take({ groupId: id, runId: 'first' }, id, endpointId)
  assert.equal(begin().isBegun, true)
  await begun.stop()
})

test('a process that stops begins no more, and what no run has taken over is recorded without one', async () => {
  const { begun, begin, recorded } = stage()
  const [taken, left] = [begin(), begin()]
  await begun.take({ groupId: taken.id, runId: 'first' }, taken.id, endpointId)
  await begun.stop()
  assert.equal(recorded.get(left.id), NO_RUN)
  assert.equal(begin().isBegun, false)
})
