import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import type { ObjectStore } from '../../../storage/archive/object-store.ts'
import { openObjectStore } from '../../../storage/archive/open-store.ts'
import { NO_S3, startS3, type S3Server } from '../../support/s3.ts'
import { createScratch } from '../../support/scratch.ts'

const scratch = createScratch('archive')
const s3: S3Server | undefined = await startS3()
after(async () => {
  await s3?.stop()
  scratch.remove()
})

const text = (store: ObjectStore, key: string) => store.get(key).then(String)

async function keysOf(store: ObjectStore, prefix: string): Promise<string[]> {
  const keys: string[] = []
  for await (const { key } of store.list(prefix)) keys.push(key)
  return keys
}

/** Every store keeps to the same promises. */
function suite(name: string, open: () => Promise<ObjectStore>, skip: string | false): void {
  describe(name, { skip }, () => {
    let store: ObjectStore
    before(async () => {
      store = await open()
    })
    after(() => store.close())

    test('what was put is got, whole and in ranges, and replaced by what is put later', async () => {
      await store.put('a/one', Buffer.from('first'))
      await store.put('a/one', [Buffer.from('in two '), Buffer.from('pieces')])
      assert.equal(await text(store, 'a/one'), 'in two pieces')
      assert.equal(String(await store.getRange('a/one', 3, 6)), 'two')
      assert.equal(String(await store.getRange('a/one', 7, 1000)), 'pieces')
      assert.equal((await store.getRange('a/one', 4, 4)).length, 0)
    })

    test('an object that is not there is told so', async () => {
      await assert.rejects(store.get('a/nothing'), { code: 'object_missing' })
      await assert.rejects(store.getRange('a/nothing', 0, 10), { code: 'object_missing' })
    })

    test('a list is of a prefix, in the order of keys, through many pages', async () => {
      const keys = Array.from({ length: 1100 }, (_, i) => `many/${String(i).padStart(5, '0')}`)
      for (let at = 0; at < keys.length; at += 50) await Promise.all(keys.slice(at, at + 50).map((key) => store.put(key, Buffer.from(key))))
      await store.put('many-others', Buffer.from('x'))
      assert.deepEqual(await keysOf(store, 'many/'), keys)
      assert.deepEqual(await keysOf(store, 'many/0109'), keys.slice(1090))
      assert.deepEqual(await keysOf(store, 'none/'), [])
      for await (const { key, bytes, modifiedAt } of store.list('many/00000')) {
        assert.deepEqual([key, bytes], ['many/00000', 10])
        assert.ok(Math.abs(Date.now() - modifiedAt.getTime()) < 60_000)
      }
      await store.delete(keys)
      assert.deepEqual(await keysOf(store, 'many/'), [])
      assert.equal(await text(store, 'many-others'), 'x')
    })

    test('deleting what is not there is no error', async () => {
      await store.put('b/one', Buffer.from('x'))
      await store.delete(['b/one', 'b/two'])
      await store.delete(['b/one'])
      await assert.rejects(store.get('b/one'), { code: 'object_missing' })
    })
  })
}

suite('a directory', () => openObjectStore({ url: pathToFileURL(join(scratch.path, 'files')).href }), false)
suite('a bucket', () => openObjectStore(s3!.bucket('suite')), s3 === undefined && NO_S3)

test('what a process left that died while it wrote is no object', async () => {
  const folder = join(scratch.path, 'left', 'data')
  mkdirSync(folder, { recursive: true })
  const store = await openObjectStore({ url: pathToFileURL(join(scratch.path, 'left')).href })
  writeFileSync(join(folder, 'one.partial-0123456789abcdef'), 'half')
  assert.deepEqual(await keysOf(store, 'data/'), [])
})

test('a body that fails leaves the object that was there before', async () => {
  const store = await openObjectStore({ url: pathToFileURL(join(scratch.path, 'failing')).href })
  await store.put('data/one', Buffer.from('before'))
  const failing = function* () {
    yield Buffer.from('half')
    throw new Error('no more')
  }
  await assert.rejects(store.put('data/one', failing()), /no more/)
  assert.equal(await text(store, 'data/one'), 'before')
  assert.deepEqual(await keysOf(store, ''), ['data/one'])
})

test('a key does not lead out of the directory', async () => {
  const store = await openObjectStore({ url: pathToFileURL(join(scratch.path, 'inside')).href })
  assert.throws(() => store.get('../outside'), RangeError)
})

test('a bucket that is not there, and a wrong secret, are told with where', { skip: s3 === undefined && NO_S3 }, async () => {
  const settings = s3!.bucket('refused')
  const elsewhere = await openObjectStore({ ...settings, url: 's3://nowhere' })
  await assert.rejects(elsewhere.put('one', Buffer.from('x')), {
    code: 'store_failed',
    message: /^s3:\/\/nowhere\/ does not serve one \(NoSuchBucket/,
  })
  const wrong = { ...settings.credentials!, secretAccessKey: 'another secret' }
  const refused = await openObjectStore({ ...settings, credentials: wrong })
  await assert.rejects(refused.get('one'), { code: 'store_failed', message: /SignatureDoesNotMatch/ })
  elsewhere.close()
  refused.close()
})
