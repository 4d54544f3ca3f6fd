import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { Svix } from 'svix'
import { createToken } from '../../api/token.ts'
import { newId } from '../../domain/ids.ts'
import { JWT_SECRET, startApi, type Harness } from '../api/harness.ts'
import { spawnScript, type RunningProcess } from '../support/processes.ts'

const HOOK = 'https://example.com/hook'
const SECRET = `whsec_${Buffer.alloc(32, 5).toString('base64')}`
const ASYMMETRIC = `whsk_${Buffer.alloc(32, 9).toString('base64')}`

let source: Harness
let target: Harness
before(async () => {
  ;[source, target] = await Promise.all([startApi(), startApi()])
})
after(() => Promise.all([source.close(), target.close()]))

function run(args: readonly string[], more: Record<string, string> = {}): RunningProcess {
  const options = { from: 'svix', url: source.url, token: source.token, to: target.url, 'to-token': target.token, ...more }
  return spawnScript('cli/import.ts', [...Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]), ...args])
}

/** Runs it to its end. @returns the cells of its table by line, and its other lines */
async function imported(
  args: readonly string[],
  more: Record<string, string> = {},
): Promise<{ table: Record<string, number[]>; rest: string[]; code: unknown }> {
  const command = run(args, more)
  const code = await command.ended
  const lines = command.stdout().trim().split('\n')
  assert.ok(lines.length >= 4, command.stderr())
  const rows = lines.flatMap((line) => {
    const cells = /^(event types|applications|endpoints) +(\d+) +(\d+) +(\d+) +(\d+)$/.exec(line)
    return cells === null ? [] : [[cells[1]!, cells.slice(2).map(Number)] as const]
  })
  return { table: Object.fromEntries(rows), rest: lines.filter((line) => /^(note|failed|Nothing)/.test(line)), code }
}

async function fill(): Promise<void> {
  const { svix } = source
  await svix.eventType.create({ name: 'order.paid', description: 'Paid', schemas: { '1': { type: 'object' } }, groupName: 'order' })
  await svix.eventType.create({ name: 'order.old', description: 'Old' })
  await svix.eventType.create({ name: 'order.gone', description: 'Gone' })
  await svix.application.create({ name: 'Shop', uid: 'shop', metadata: { plan: 'pro', b: 'c' }, throttleRate: 9 })
  const named = { uid: 'first', description: 'd', channels: ['b', 'a'], metadata: { k: 'v' }, throttleRate: 3 }
  await svix.endpoint.create('shop', { ...named, url: HOOK, eventTypes: ['order.paid', 'order.old', 'order.gone'], secret: SECRET })
  await svix.endpoint.setHeaders('shop', 'first', { headers: { 'X-Shop': '1', Authorization: 'Bearer x' } })
  await svix.endpoint.create('shop', { url: HOOK, disabled: true, secret: ASYMMETRIC })
  await svix.application.create({ name: 'No uid' })
  await svix.eventType.delete('order.old')
  await svix.eventType.delete('order.gone', { expunge: true })
}

test('everything that can be read is copied, a second run changes nothing, and a third brings what has changed', async () => {
  await fill()
  const dry = await imported(['--dry-run'])
  assert.deepEqual(dry.table, { 'event types': [2, 0, 0, 0], applications: [2, 0, 0, 0], endpoints: [2, 0, 0, 0] })
  assert.match(dry.rest[0]!, /^Nothing was written/)
  assert.equal((await target.svix.application.list()).data.length, 0)

  const first = await imported([])
  assert.deepEqual([first.code, first.table], [0, dry.table])
  assert.match(first.rest.join('\n'), /note: endpoint ep_\w+ of application app_\w+: the values of Authorization cannot be read/)
  assert.match(
    first.rest.join('\n'),
    /note: endpoint ep_\w+ of application app_\w+ signs with a key that cannot be read: it has a new secret/,
  )
  const { svix } = target
  const comparable = ({ id: _id, createdAt: _created, updatedAt: _updated, ...rest }: { id: string; createdAt: Date; updatedAt: Date }) =>
    rest
  assert.deepEqual(comparable(await svix.application.get('shop')), comparable(await source.svix.application.get('shop')))
  const [copy, original] = [await svix.endpoint.get('shop', 'first'), await source.svix.endpoint.get('shop', 'first')]
  assert.deepEqual(
    { ...comparable(copy), eventTypes: copy.eventTypes?.sort(), channels: copy.channels?.sort() },
    { ...comparable(original), eventTypes: original.eventTypes?.sort(), channels: original.channels?.sort() },
  )
  assert.equal((await svix.endpoint.getSecret('shop', 'first')).key, SECRET)
  assert.deepEqual(await svix.endpoint.getHeaders('shop', 'first'), { headers: { 'X-Shop': '1' }, sensitive: [] })
  const types = (await svix.eventType.list({ includeArchived: true, withContent: true })).data
  assert.deepEqual(
    types.map((type) => [type.name, type.archived]),
    [
      ['order.gone', true],
      ['order.old', true],
      ['order.paid', false],
    ],
  )
  assert.deepEqual([types[2]!.schemas, types[2]!.groupName], [{ '1': { type: 'object' } }, 'order'])

  const second = await imported([])
  assert.deepEqual(second.table, { 'event types': [0, 0, 2, 0], applications: [0, 0, 2, 0], endpoints: [0, 0, 2, 0] })

  await svix.endpoint.setHeaders('shop', 'first', { headers: { 'X-Other': '2', Authorization: 'Bearer set by hand' } })
  await source.svix.endpoint.patch('shop', 'first', { description: 'new' })
  await source.svix.endpoint.rotateSecret('shop', 'first', {})
  await source.svix.application.patch('shop', { name: 'Shop 2' })
  await source.svix.eventType.patch('order.paid', { deprecated: true })
  const third = await imported([])
  assert.deepEqual(third.table, { 'event types': [0, 1, 1, 0], applications: [0, 1, 1, 0], endpoints: [0, 1, 1, 0] })
  assert.deepEqual([(await svix.endpoint.get('shop', 'first')).description, (await svix.application.get('shop')).name], ['new', 'Shop 2'])
  assert.equal((await svix.endpoint.getSecret('shop', 'first')).key, (await source.svix.endpoint.getSecret('shop', 'first')).key)
  assert.deepEqual(await svix.endpoint.getHeaders('shop', 'first'), { headers: { 'X-Shop': '1' }, sensitive: ['Authorization'] })
})

test('what the target refuses is told, and the rest is copied', async () => {
  const from = await createToken({ secret: JWT_SECRET, subject: newId('org') })
  const to = await createToken({ secret: JWT_SECRET, subject: newId('org') })
  const svix = new Svix(from, { serverUrl: source.url })
  const app = await svix.application.create({ name: 'Half' })
  const good = await svix.endpoint.create(app.id, { url: HOOK })
  const bad = await svix.endpoint.create(app.id, { url: HOOK })
  // As a server would have it that takes other addresses.
  await source.pool.query(`UPDATE endpoint SET url = 'ftp://example.com' WHERE id = $1`, [bad.id])
  const { table, rest, code } = await imported([], { token: from, 'to-token': to })
  assert.deepEqual([code, table['endpoints']], [1, [1, 0, 0, 1]])
  assert.match(rest.join('\n'), new RegExp(`^failed: endpoint ${bad.id} of application ${app.id}: Tidings answered 422 to POST .*scheme`))
  const copied = await new Svix(to, { serverUrl: target.url }).endpoint.list(`svix-${app.id}`)
  assert.deepEqual(
    copied.data.map((one) => one.uid),
    [`svix-${good.id}`],
  )
})

test('more than a page is copied', async () => {
  const from = await createToken({ secret: JWT_SECRET, subject: newId('org') })
  const to = await createToken({ secret: JWT_SECRET, subject: newId('org') })
  const svix = new Svix(from, { serverUrl: source.url })
  for (let i = 0; i < 260; i++) await svix.eventType.create({ name: `type.${i}`, description: '' })
  assert.deepEqual((await imported([], { token: from, 'to-token': to })).table['event types'], [260, 0, 0, 0])
})

test('a server that is busy is asked again when it says, and one that is not there is named', async () => {
  let requests = 0
  const busy = createServer((request, response) => {
    requests++
    if (requests === 1) response.writeHead(429, { 'retry-after': '0' }).end()
    else if (requests === 2) response.writeHead(503).end()
    else response.writeHead(200, { 'content-type': 'application/json' }).end('{"data":[],"iterator":null,"prevIterator":null,"done":true}')
    request.resume()
  })
  await new Promise<void>((resolve) => busy.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(busy.address() as AddressInfo).port}`
  try {
    assert.deepEqual((await imported([], { url: `${url}/api/v1/` })).table['applications'], [0, 0, 0, 0])
    assert.equal(requests, 4)
  } finally {
    busy.closeAllConnections()
    await new Promise((resolve) => busy.close(resolve))
  }
})

test('options that make no sense, a refused token and an address without an API are named in one line', async () => {
  const cases: [Record<string, string>, RegExp][] = [
    [{ from: 'other' }, /^tidings: --from other: must be svix/],
    [{ url: 'nowhere' }, /^tidings: --url nowhere: must be an http or https address/],
    [{ token: '' }, /^tidings: --token is missing/],
    [{ token: 'wrong' }, /^tidings: The source refuses the token \(401 for GET \/event-type/],
    [{ url: `${source.url}/docs` }, /^tidings: The source answered 404 to GET \/event-type/],
    [{ to: source.url, 'to-token': source.token }, /^tidings: source and target are the same organisation/],
  ]
  for (const [options, expected] of cases) {
    const command = run([], options)
    assert.equal(await command.ended, 1)
    const line = command.stderr().trim().split('\n').at(-1)!
    assert.match(line, expected)
    assert.ok(!line.includes(source.token))
  }
})
