import assert from 'node:assert/strict'
import { test } from 'node:test'
import pino from 'pino'
import { createCipher } from '../../storage/cipher.ts'
import { createConfigCache } from '../../storage/config-cache.ts'
import { createPool } from '../../storage/pool.ts'
import { startReceiver } from '../support/receiver.ts'
import { startTestService, TEST_SECRET } from '../support/service.ts'

test('what was published to of late is in memory when a process starts', async (t) => {
  const receiver = await startReceiver()
  const service = await startTestService()
  const pool = createPool(service.database.url, 2)
  t.after(async () => {
    await pool.end()
    await service.stop()
    await receiver.close()
  })
  const [popular, silent] = await Promise.all(['popular', 'silent'].map((name) => service.svix.application.create({ name, uid: name })))
  await service.svix.endpoint.create(popular!.id, { url: receiver.url })
  await service.svix.message.create(popular!.id, { eventType: 'invoice.paid', payload: {} })
  const cache = createConfigCache({ pool, cipher: createCipher(TEST_SECRET), log: pino({ level: 'silent' }) })
  assert.equal(await cache.warm(), 1)
  const { misses } = cache.counts().endpoints
  assert.equal((await cache.endpoints(popular!.id)).list.length, 1)
  assert.equal((await cache.application(service.organisation, popular!.id))?.id, popular!.id)
  assert.equal((await cache.application(service.organisation, 'popular'))?.id, popular!.id)
  assert.equal(cache.counts().endpoints.misses, misses)
  assert.equal(cache.counts().applications.misses, 0)
  await cache.endpoints(silent!.id)
  assert.equal(cache.counts().endpoints.misses, misses + 1)
})
