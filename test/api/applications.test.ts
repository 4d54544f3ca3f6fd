import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createToken } from '../../api/token.ts'
import { newId } from '../../domain/ids.ts'
import { JWT_SECRET, startApi, type Answer, type Harness } from './harness.ts'

let api: Harness
before(async () => {
  api = await startApi()
})
after(() => api.close())

test('an application is created, read by id and by uid, patched, replaced and deleted through the svix client', async () => {
  const { svix } = api
  const created = await svix.application.create({ name: 'Acme', uid: 'acme', metadata: { plan: 'pro' }, throttleRate: 7 })
  assert.match(created.id, /^app_[0-9A-Za-z]{27}$/)
  assert.equal(created.throttleRate, 7)
  assert.deepEqual(await svix.application.get('acme'), await svix.application.get(created.id))
  const patched = await svix.application.patch('acme', { name: 'Acme 2', throttleRate: null })
  assert.equal(patched.name, 'Acme 2')
  assert.equal(patched.throttleRate, null)
  assert.deepEqual(patched.metadata, { plan: 'pro' })
  const put = await svix.application.upsert('acme', { name: 'Acme 3', uid: 'acme' })
  assert.equal(put.id, created.id)
  assert.deepEqual(put.metadata, {})
  await svix.application.delete('acme')
  await assert.rejects(svix.application.get('acme'), { code: 404 })
  const again = await svix.application.create({ name: 'Acme', uid: 'acme' })
  assert.notEqual(again.id, created.id)
})

test('a taken uid is a conflict, and get_if_exists answers 200 with the application that has it', async () => {
  const first = await api.call('POST', '/app', { name: 'One', uid: 'taken' })
  assert.equal(first.status, 201)
  const second = await api.call('POST', '/app', { name: 'Two', uid: 'taken' })
  assert.equal(second.status, 409)
  assert.equal(second.json.code, 'conflict')
  const found = await api.call('POST', '/app?get_if_exists=true', { name: 'Two', uid: 'taken' })
  assert.equal(found.status, 200)
  assert.deepEqual(found.json, first.json)
  const other = await api.svix.application.create({ name: 'Other', uid: 'other' })
  assert.equal((await api.call('PATCH', `/app/${other.id}`, { uid: 'taken' })).status, 409)
  assert.equal((await api.call('PUT', '/app/nothing', { name: 'x', uid: 'taken' })).status, 409)
})

test('PUT on an unknown path creates with the uid of the body only', async () => {
  const created = await api.call('PUT', '/app/path-name', { name: 'Put' })
  assert.equal(created.status, 201)
  assert.equal(created.json.uid, null)
  assert.equal((await api.call('GET', '/app/path-name')).status, 404)
})

test('errors of shape and of rule have the answers of the Svix API', async () => {
  const cases: [unknown, string[], string][] = [
    ['{', ['body'], 'value_error.jsondecode'],
    ['', ['body'], 'value_error.jsondecode'],
    ['[]', ['body'], 'value_error.jsondecode'],
    [{}, ['body', 'name'], 'value_error.jsondecode'],
    [{ name: 5 }, ['body', 'name'], 'value_error.jsondecode'],
    [{ name: '' }, ['body', 'name'], 'value_error'],
    [{ name: 'x', uid: 'with space' }, ['body', 'uid', '__all__'], 'value_error'],
    [{ name: 'x', uid: '' }, ['body', 'uid', '__all__'], 'value_error'],
    [{ name: 'x', uid: 'app_x' }, ['body', 'uid', '__all__'], 'value_error'],
    [{ name: 'x', uid: 'u'.repeat(257) }, ['body', 'uid', '__all__'], 'value_error'],
    [{ name: 'x', throttleRate: 0 }, ['body', 'throttle_rate'], 'value_error'],
    [{ name: 'x', throttleRate: 70_000 }, ['body', 'throttleRate'], 'value_error.jsondecode'],
    [{ name: 'x', metadata: { a: 1 } }, ['body', 'metadata', 'a'], 'value_error.jsondecode'],
    [{ name: 'x', metadata: { a: 'b'.repeat(4096) } }, ['body', 'metadata'], 'value_error'],
    [{ name: 'a\u0000b' }, ['body', 'name'], 'value_error'],
  ]
  for (const [body, loc, type] of cases) {
    const { status, json } = await api.call('POST', '/app', body)
    assert.equal(status, 422, JSON.stringify(body))
    assert.deepEqual([json.detail[0]!.loc, json.detail[0]!.type], [loc, type], JSON.stringify(body))
    assert.equal(typeof json.detail[0]!.msg, 'string')
  }
  assert.equal((await api.call('POST', '/app', { name: 'x'.repeat(2_200_000) })).status, 413)
})

test('PATCH refuses null for a name and reads null metadata as none', async () => {
  const app = await api.svix.application.create({ name: 'P', uid: 'patchy', metadata: { a: 'b' } })
  assert.equal((await api.call('PATCH', `/app/${app.id}`, { name: null })).status, 422)
  const patched = await api.call('PATCH', `/app/${app.id}`, { metadata: null, uid: null })
  assert.deepEqual(patched.json.metadata, {})
  assert.equal(patched.json.uid, null)
  assert.equal(patched.json.name, 'P')
})

test('a list pages forwards and backwards in both orders', async () => {
  const orgId = newId('org')
  const token = await createToken({ secret: JWT_SECRET, subject: orgId })
  const ids: string[] = []
  for (let i = 0; i < 5; i++) ids.push((await api.call('POST', '/app', { name: `n${i}` }, token)).json.id)
  ids.sort()
  const page = async (query: string) => (await api.call('GET', `/app?${query}`, undefined, token)).json
  const idsOf = (list: Answer) => list.data.map((one) => one.id)
  const first = await page('limit=2')
  assert.deepEqual(idsOf(first), ids.slice(0, 2))
  assert.deepEqual([first.iterator, first.prevIterator, first.done], [ids[1], `-${ids[0]}`, false])
  const second = await page(`limit=2&iterator=${first.iterator}`)
  assert.deepEqual(idsOf(second), ids.slice(2, 4))
  const last = await page(`limit=2&iterator=${second.iterator}`)
  assert.deepEqual([idsOf(last), last.done], [ids.slice(4), true])
  const back = await page(`limit=2&iterator=${second.prevIterator}`)
  assert.deepEqual([idsOf(back), back.done], [ids.slice(0, 2), true])
  assert.deepEqual(idsOf(await page('order=descending')), [...ids].reverse())
  const empty = await page(`iterator=${last.iterator}`)
  assert.deepEqual(empty, { data: [], iterator: null, prevIterator: null, done: true })
  assert.equal((await api.call('GET', '/app?limit=251')).json.detail[0]!.loc[1], 'limit')
  assert.equal((await api.call('GET', '/app?limit=x')).json.code, 'generic_error')
  assert.equal((await api.call('GET', '/app?iterator=nonsense')).status, 422)
  assert.equal((await api.call('GET', '/app?order=up')).status, 400)
})

test('trailing slashes are ignored, unknown paths are 404 and unknown methods 405', async () => {
  assert.equal((await api.call('GET', '/app/')).status, 200)
  assert.equal((await api.call('GET', '/nowhere')).json.code, 'not_found')
  const wrong = await api.call('DELETE', '/app')
  assert.equal(wrong.status, 405)
  assert.equal(wrong.headers.get('allow'), 'GET, POST')
  assert.equal((await api.call('GET', '/app/%00')).status, 404)
  assert.equal((await api.call('PUT', '/app/%00', { name: 'x' })).status, 404)
  assert.equal((await api.call('GET', '/app/%ff')).status, 400)
})
