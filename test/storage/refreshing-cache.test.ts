import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createRefreshingCache, type RefreshingCacheOptions } from '../../storage/refreshing-cache.ts'
import { eventually } from '../support/eventually.ts'

interface Value {
  readonly key: string
  readonly version: number
}

/** Values that a map has: what was loaded, and how it was grouped. */
function createSource() {
  const versions = new Map<string, number>()
  const groups: string[][] = []
  let held: Promise<void> = Promise.resolve()
  return {
    versions,
    groups,
    loadsOf: (key: string) => groups.filter((keys) => keys.includes(key)).length,
    /** Loads read at once and are answered after the returned function is called. */
    hold(): () => void {
      let go: () => void = () => undefined
      held = new Promise((resolve) => (go = resolve))
      return go
    },
    async load(keys: readonly string[]): Promise<Map<string, Value>> {
      groups.push([...keys])
      const found = new Map(keys.flatMap((key) => (versions.has(key) ? [[key, { key, version: versions.get(key)! }] as const] : [])))
      await held
      return found
    },
  }
}

function createCache(source: ReturnType<typeof createSource>, options: Partial<RefreshingCacheOptions<Value>> = {}) {
  return createRefreshingCache<Value>({ maxBytes: 1000, bytesOf: () => 10, load: (keys) => source.load(keys), ...options })
}

/** Loaded again after 0.5 s, with 2.5 s of room for a busy machine. */
const SHORT = { ms: 3000, refreshBeforeMs: 2500, sweepEveryMs: 20 }

test('what is asked for together is loaded together, and once', async () => {
  const source = createSource()
  source.versions.set('a', 1).set('b', 1)
  const cache = createCache(source)
  const [a, again, b] = await Promise.all([cache.get('a'), cache.get('a'), cache.get('b')])
  assert.deepEqual([a?.key, again?.key, b?.key], ['a', 'a', 'b'])
  assert.deepEqual(source.groups, [['a', 'b']])
  assert.deepEqual({ ...cache.counts(), bytes: 0 }, { hits: 1, misses: 2, refreshes: 0, leftToExpire: 0, entries: 2, bytes: 0 })
})

test('what does not exist is not kept', async () => {
  const source = createSource()
  const cache = createCache(source)
  assert.equal(await cache.get('a'), undefined)
  source.versions.set('a', 1)
  assert.equal((await cache.get('a'))?.version, 1)
})

test('an entry that is used is loaded again before it expires: nobody waits for it', async () => {
  const source = createSource()
  source.versions.set('used', 1).set('unused', 1)
  const cache = createCache(source, { life: SHORT })
  await cache.warm(['used', 'unused'])
  const { misses } = cache.counts()
  source.versions.set('used', 2)
  await eventually(
    () => cache.get('used'),
    (value) => value?.version === 2,
  )
  assert.equal(cache.counts().misses, misses)
  await eventually(
    async () => cache.counts(),
    ({ entries, leftToExpire }) => entries === 1 && leftToExpire === 1,
  )
  assert.equal(source.loadsOf('unused'), 1)
})

test('without prediction everything expires', async () => {
  const source = createSource()
  source.versions.set('a', 1)
  const cache = createCache(source, { life: SHORT, predicts: false })
  await cache.get('a')
  for (let i = 0; i < 10; i++) await cache.get('a')
  await eventually(
    async () => cache.counts(),
    ({ entries }) => entries === 0,
  )
  assert.equal(source.loadsOf('a'), 1)
})

test('a refresh that overlaps a deletion is kept for nobody', async () => {
  const source = createSource()
  source.versions.set('a', 1)
  const cache = createCache(source, { life: SHORT })
  for (let i = 0; i < 10; i++) await cache.get('a')
  const go = source.hold()
  await eventually(
    async () => source.loadsOf('a'),
    (loads) => loads === 2,
  )
  source.versions.set('a', 2)
  cache.delete('a')
  go()
  assert.equal((await cache.get('a'))?.version, 2)
  assert.equal((await cache.get('a'))?.version, 2)
})

test('a refresh that fails leaves the value until it expires', async () => {
  const source = createSource()
  source.versions.set('a', 1)
  let fails = false
  const load = (keys: readonly string[]) => (fails ? Promise.reject(new Error('away')) : source.load(keys))
  const cache = createCache(source, { life: SHORT, load })
  for (let i = 0; i < 10; i++) await cache.get('a')
  fails = true
  await eventually(
    async () => cache.counts(),
    ({ refreshes }) => refreshes === 1,
  )
  await eventually(
    async () => cache.counts(),
    ({ entries }) => entries === 0,
  )
  await assert.rejects(cache.get('a'), /away/)
})

test('over its bytes the entry used longest ago is dropped, and told of', async () => {
  const source = createSource()
  const kept = new Set<string>()
  const cache = createCache(source, { maxBytes: 30, onKeep: (key) => kept.add(key), onDrop: (key) => kept.delete(key) })
  for (const key of ['a', 'b', 'c']) source.versions.set(key, 1)
  source.versions.set('d', 1)
  for (const key of ['a', 'b', 'c', 'a', 'd']) await cache.get(key)
  assert.deepEqual([...kept].sort(), ['a', 'c', 'd'])
  assert.equal(cache.counts().bytes, 30)
  cache.clear()
  assert.equal(kept.size, 0)
})
