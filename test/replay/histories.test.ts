import assert from 'node:assert/strict'
import { homedir, hostname } from 'node:os'
import { test } from 'node:test'
import { replayAll, storedHistories, type StoredHistory } from './replaying.ts'

const stored = storedHistories()

/** All text of a history, payloads decoded. */
function textOf(one: StoredHistory): string {
  const texts: string[] = []
  JSON.stringify(one, (key, value: unknown) => {
    if (typeof value === 'string') texts.push(value)
    if (key === 'data' && typeof value === 'string') texts.push(Buffer.from(value, 'base64').toString('utf8'))
    return value
  })
  return texts.join('\n')
}

test('every history that was ever recorded replays with the workflows as they are now', async () => {
  assert.ok(stored.length >= 9, `${stored.length} histories`)
  assert.deepEqual(await replayAll(stored), [])
})

test('they replay with the workflows of workers that have a version too', async () => {
  assert.deepEqual(await replayAll(stored, { versioned: true }), [])
})

test('a history that the workflows do not fit is found', async () => {
  const [one] = stored.filter((candidate) => candidate.name.startsWith('parked.2'))
  const text = JSON.stringify(one).replaceAll('drainMailbox', 'emptyMailbox')
  assert.equal((await replayAll([JSON.parse(text) as StoredHistory])).length, 1)
})

test('stored histories hold no path, machine, secret, payload or stack', () => {
  for (const one of stored) {
    const text = textOf(one)
    for (const [what, pattern] of [
      ['a path', /\/(work|home|root|Users|tmp|usr|node_modules)\//],
      ['a secret', /whs(ec|k)_/],
      ['a token', /eyJ[\w-]+\.eyJ/],
      ['a stack', /\n\s+at .+:\d+:\d+/],
      ['a payload', /"n":\s*\d/],
    ] as const) {
      assert.doesNotMatch(text, pattern, `${one.name} holds ${what}`)
    }
    for (const name of [homedir(), hostname()]) assert.ok(name.length < 4 || !text.includes(name), `${one.name} names this machine`)
  }
})
