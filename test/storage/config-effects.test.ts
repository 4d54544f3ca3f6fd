import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { newId } from '../../domain/ids.ts'
import { MANAGEMENT_ORGANISATION } from '../../domain/operational.ts'
import { doDueEffects, sendEffect, type ConfigEffect } from '../../storage/config-effects.ts'
import { inTransaction } from '../../storage/pool.ts'
import { createStorage, type Storage } from './rows.ts'

let storage: Storage

before(async () => {
  storage = await createStorage()
})
beforeEach(() => storage.pool.query('TRUNCATE config_effect_due, background_task, outbox, message, application, endpoint CASCADE'))
after(() => storage.drop())

const due = (effect: ConfigEffect, region = 'here') =>
  storage.pool.query('INSERT INTO config_effect_due (region, effect) VALUES ($1, $2)', [region, JSON.stringify(effect)])
const erased = (id: string): ConfigEffect => {
  return { kind: 'application-erased', task: { id, orgId: 'org_1', appId: 'app_1', task: 'application.erase', input: {} } }
}
const never = () => assert.fail('an effect failed')
const left = async () => (await storage.pool.query('SELECT FROM config_effect_due')).rowCount

test('of many processes that do what is due each effect is done by one', async () => {
  const ids = Array.from({ length: 150 }, () => newId('qtask'))
  for (const id of ids) await due(erased(id))
  const done = await Promise.all([1, 2, 3].map(() => doDueEffects(storage.pool, 'here', never)))
  assert.deepEqual(
    done.flatMap(({ tasks }) => tasks.map(({ id }) => id)),
    ids,
  )
  assert.equal(await left(), 0)
})

test('an effect that cannot be done waits, and holds up no other', async () => {
  const [stuck, free] = [newId('qtask'), newId('qtask')]
  await due(erased(stuck))
  await doDueEffects(storage.pool, 'here', never)
  // A task of this id exists already.
  await due(erased(stuck))
  await due(erased(free))
  const failed: number[] = []
  const { tasks } = await doDueEffects(storage.pool, 'here', (id) => failed.push(id))
  assert.deepEqual([tasks.map(({ id }) => id), failed.length, await left()], [[free], 1, 1])
  await storage.pool.query('DELETE FROM background_task WHERE id = $1', [stuck])
  await doDueEffects(storage.pool, 'here', never)
  assert.equal(await left(), 0)
})

test('owners are told by the region that made the change alone', async () => {
  const [management, endpoint] = [newId('app'), newId('ep')]
  await storage.pool.query('INSERT INTO application (id, org_id, uid, name) VALUES ($1, $2, $3, $3)', [
    management,
    MANAGEMENT_ORGANISATION,
    'org_1',
  ])
  await storage.pool.query(`INSERT INTO endpoint (id, app_id, url) VALUES ($1, $2, 'https://example.com')`, [endpoint, management])
  const named = { application: { id: 'app_1', uid: null }, endpoint: { id: 'ep_1', uid: null } }
  const told: ConfigEffect = { kind: 'told', event: { type: 'endpoint.created', orgId: 'org_1', ...named } }
  await due(told, 'elsewhere')
  await due(told, 'here')
  await doDueEffects(storage.pool, 'here', never)
  assert.equal((await storage.pool.query('SELECT FROM message WHERE app_id = $1', [management])).rowCount, 1)
  assert.equal(await left(), 0)
})

test('where a change is written nothing is left of its effects', async () => {
  await inTransaction(storage.pool, (client) => sendEffect(client, 'here', erased(newId('qtask'))))
  assert.equal((await storage.pool.query('SELECT FROM config_effect')).rowCount, 0)
  assert.equal(await left(), 0)
})
