import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { dayOf, idsOfDay } from '../../domain/archive.ts'
import { newId } from '../../domain/ids.ts'
import { LIMITS } from '../../domain/limits.ts'
import { archiveRange } from '../../storage/archive/archive-range.ts'
import { createArchiveLookup, type ArchiveLookup } from '../../storage/archive/lookup.ts'
import type { ObjectStore } from '../../storage/archive/object-store.ts'
import { cipher, createFileArchive, DAY, fillDay, OWNER } from '../storage/archive/fill.ts'
import { startApi, type Harness } from './harness.ts'

let api: Harness
let archive: Awaited<ReturnType<typeof createFileArchive>>
const reads: string[] = []
let failing = false
let lookup: ArchiveLookup

before(async () => {
  archive = await createFileArchive()
  const counted: ObjectStore = {
    ...archive.store,
    get: (key) => (reads.push(key), failing ? Promise.reject(new Error('the archive is away')) : archive.store.get(key)),
    getRange: (key, start, end) => (reads.push(key), archive.store.getRange(key, start, end)),
  }
  lookup = createArchiveLookup({ store: counted, cipher }, () => undefined)
  api = await startApi({}, { dayOfMessage: (appId, id) => lookup.dayOfMessage(appId, id) })
})
after(async () => {
  await api.close()
  archive.remove()
})

test('a message that was archived and dropped is answered with where it is, and others with 404 as ever', async () => {
  const { id: appId } = await api.svix.application.create({ name: 'archived' })
  const { id: other } = await api.svix.application.create({ name: 'other' })
  const { messageIds } = await fillDay(api.pool, { appId, messages: 5, attemptsEach: 0 })
  const id = messageIds[2]!
  const ask = (app: string, message: string) => api.call('GET', `/app/${app}/msg/${message}`)
  assert.equal((await ask(appId, id)).status, 200)
  const part = { table: 'message', outcome: null, day: DAY } as const
  await archiveRange({ pool: api.pool, store: archive.store, cipher, owner: OWNER, ...part, ...idsOfDay('message', DAY) })
  assert.equal((await ask(appId, id)).status, 200)
  await api.pool.query('DELETE FROM message')

  const answer = await ask(appId, id)
  assert.deepEqual([answer.status, answer.json.code, answer.json['archivedDay']], [410, 'archived', DAY])
  await assert.rejects(api.svix.message.get(appId, id), { code: 410 })
  const before = reads.length
  assert.equal((await ask(appId, id)).status, 410)
  assert.equal(reads.length, before, 'an answer is remembered')

  for (const [app, message] of [
    [other, id],
    [appId, newId('msg', Date.parse(DAY) + 5000)],
    [appId, newId('msg', Date.parse('2026-08-22'))],
    [appId, newId('msg')],
    [appId, 'an-event-id'],
  ] as const) {
    const { status, json } = await ask(app, message)
    assert.deepEqual([status, json.code], [404, 'not_found'], message)
  }
})

test('days that are not archived and applications that have nothing there cost no reads of objects', async () => {
  const { id: appId } = await api.svix.application.create({ name: 'nothing' })
  await api.call('GET', `/app/${appId}/msg/${newId('msg', Date.parse(DAY) + 1000)}`)
  reads.length = 0
  for (let i = 0; i < 20; i++) await api.call('GET', `/app/${appId}/msg/${newId('msg', Date.parse(DAY) + 1000 * i)}`)
  for (let i = 0; i < 20; i++) await api.call('GET', `/app/${appId}/msg/${newId('msg', Date.parse('2026-05-05') + 1000 * i)}`)
  assert.deepEqual(
    reads.filter((key) => key.startsWith('data/')),
    [],
  )
  assert.ok(reads.length <= 1, String(reads))
})

test('an archive that does not answer leaves 404 as it was', async () => {
  const { id: appId } = await api.svix.application.create({ name: 'away' })
  failing = true
  const answer = await api.call('GET', `/app/${appId}/msg/${newId('msg', Date.parse('2026-03-03'))}`)
  failing = false
  assert.equal(answer.status, 404)
})

test('a token asks the archive so many times at once, and no more', async () => {
  let most = 0
  let now = 0
  const slow: ObjectStore = {
    ...archive.store,
    get: async (key) => {
      most = Math.max(most, ++now)
      await new Promise((resolve) => setTimeout(resolve, 20))
      now--
      return archive.store.get(key)
    },
  }
  const busy = createArchiveLookup({ store: slow, cipher }, () => undefined)
  const days = Array.from({ length: 50 }, (_, i) => dayOf(Date.parse('2026-01-01') + i * 86_400_000))
  await Promise.all(days.map((day) => busy.dayOfMessage('app_x', newId('msg', Date.parse(day)))))
  assert.equal(most, LIMITS.archiveLookupsAtOnce)
})
