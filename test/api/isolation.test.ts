import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import fc from 'fast-check'
import type { Method, Operation } from '../../api/routing.ts'
import { ROUTES } from '../../api/server.ts'
import { createToken } from '../../api/token.ts'
import { newId } from '../../domain/ids.ts'
import { JWT_SECRET, startApi, type Harness } from './harness.ts'
import { createRecorded } from './recorded.ts'

/** In every text of the victim: no answer to another may hold it. */
const MARKER = 'victims-own-affair'
const RUNS = 600

interface OperationAt {
  readonly method: Method
  readonly path: string
  readonly operation: Operation
  /** Names of the path's variables. */
  readonly variables: readonly string[]
}

const OPERATIONS: readonly OperationAt[] = Object.entries(ROUTES).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({
    method: method as Method,
    path,
    operation,
    variables: [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? ''),
  })),
)
const GUARDED = OPERATIONS.filter(({ operation }) => operation.access !== 'anyone')

let api: Harness
/** Names that the victim's objects have, by the variable of a path that takes them. */
let victim: Readonly<Record<string, readonly string[]>>
let operationalEndpoint: string
/** Applications of the two who try. */
let own: Readonly<Record<Stranger, string>>
let tokens: Readonly<Record<Stranger, string>>

/** Another organisation, an application of another organisation, and another application of the same one. */
type Stranger = 'organisation' | 'its application' | 'sibling'
const STRANGERS: readonly Stranger[] = ['organisation', 'its application', 'sibling']

before(async () => {
  api = await startApi()
  victim = await createVictim()
  const orgId = newId('org')
  const organisation = await createToken({ secret: JWT_SECRET, subject: orgId })
  const strange = (await api.call('POST', '/app', { name: 'Stranger' }, organisation)).json.id
  const sibling = (await api.svix.application.create({ name: 'Sibling' })).id
  own = { organisation: strange, 'its application': strange, sibling }
  tokens = {
    organisation,
    'its application': await createToken({ secret: JWT_SECRET, subject: strange, org: orgId }),
    sibling: await createToken({ secret: JWT_SECRET, subject: sibling, org: api.orgId }),
  }
})
after(() => api.close())

async function createVictim(): Promise<Record<string, readonly string[]>> {
  const { app, endpoint, attempt, delivery } = await createRecorded(api)
  await api.svix.application.patch(app, { uid: 'victims-app', name: MARKER, metadata: { note: MARKER } })
  await api.svix.endpoint.patch(app, endpoint, { description: MARKER, url: `https://example.com/${MARKER}`, metadata: { note: MARKER } })
  await api.svix.endpoint.patchHeaders(app, endpoint, { headers: { 'x-note': MARKER } })
  await api.svix.eventType.create({ name: 'victims.type', description: MARKER })
  const eventType = 'victims.event'
  const message = await api.svix.message.create(app, { eventType, eventId: 'victims-event', payload: { note: MARKER } })
  const attemptId = await attempt({ messageId: message.id })
  await delivery(message.id, endpoint, 'dead')
  const task = (await api.svix.endpoint.recover(app, endpoint, { since: new Date(Date.now() - 60_000) })).id
  const operational = { url: `https://example.com/${MARKER}`, description: MARKER }
  operationalEndpoint = (await api.call('POST', '/operational-webhook/endpoint', operational)).json.id
  return {
    app_id: [app, 'victims-app'],
    endpoint_id: [endpoint, 'first'],
    msg_id: [message.id, 'victims-event'],
    attempt_id: [attemptId],
    event_type_name: ['victims.type'],
    task_id: [task],
    token_id: ['the-id-of-a-token'],
  }
}

const isOperational = (path: string): boolean => path.startsWith('/operational-webhook/')

/** The victim's names for the variables of a path; `pick` chooses between id and uid. */
function namesIn({ path, variables }: OperationAt, pick: number): Record<string, string> {
  return Object.fromEntries(
    variables.map((variable) => {
      const names = isOperational(path) && variable === 'endpoint_id' ? [operationalEndpoint] : victim[variable]
      assert.ok(names, `give the victim of this test an object for {${variable}}`)
      return [variable, names[pick % names.length]!]
    }),
  )
}

const fill = (path: string, names: Readonly<Record<string, string>>): string =>
  path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(names[name]!))

/** A name that is not the caller's is a new one's: what was there stays another's. */
const creates = ({ method, path }: OperationAt): boolean => method === 'put' && path === '/app/{app_id}'

/** A body that every operation takes whose path names an application. */
const body = () => ({
  msgIds: victim['msg_id'],
  name: 'taken.over',
  description: 'taken over',
  url: 'https://example.com/taken-over',
  headers: { 'x-taken': 'over' },
  eventType: 'taken.over',
  payload: { taken: 'over' },
  messages: [{ eventType: 'taken.over', payload: { taken: 'over' } }],
  since: new Date(Date.now() - 3_600_000).toISOString(),
})

/** Everything stored that belongs to the victim, as text. */
async function victimsRows(): Promise<string> {
  const { rows: tables } = await api.pool.query<{ name: string }>(
    "SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1",
  )
  const ids = [...Object.values(victim).flat(), operationalEndpoint, MARKER].filter(
    (id) => !['first', 'the-id-of-a-token', 'victims.type'].includes(id),
  )
  const all: string[] = []
  for (const { name } of tables) {
    const { rows } = await api.pool.query<{ row: string }>(
      `SELECT t::text AS row FROM ${name} t WHERE EXISTS (SELECT FROM unnest($1::text[]) id WHERE strpos(t::text, id) > 0) ORDER BY 1`,
      [ids],
    )
    all.push(...rows.map(({ row }) => `${name} ${row}`))
  }
  return all.join('\n')
}

async function send(token: string, method: Method, path: string): Promise<{ status: number; text: string }> {
  const hasBody = ['post', 'put', 'patch'].includes(method)
  const response = await fetch(`${api.url}/api/v1${path}`, {
    method: method.toUpperCase(),
    headers: { authorization: `Bearer ${token}` },
    ...(hasBody ? { body: JSON.stringify(body()) } : {}),
  })
  return { status: response.status, text: await response.text() }
}

test('the victim itself reads its objects under these names, so that a refusal to others means something', async () => {
  let marked = 0
  for (const one of GUARDED.filter(({ method, variables }) => method === 'get' && variables.length > 0)) {
    for (const pick of [0, 1]) {
      const path = fill(one.path, namesIn(one, pick))
      const { status, text } = await send(api.token, 'get', path)
      assert.equal(status, 200, path)
      if (text.includes(MARKER)) marked++
    }
  }
  assert.ok(marked > 10, String(marked))
})

interface Attempt {
  readonly operation: OperationAt
  readonly stranger: Stranger
  readonly inOwnApplication: boolean
  readonly pick: number
}

/** What a stranger tries: the victim's names, or its own application with the victim's objects in it. */
const attempts: fc.Arbitrary<Attempt> = fc.record({
  operation: fc.constantFrom(...GUARDED),
  stranger: fc.constantFrom(...STRANGERS),
  inOwnApplication: fc.boolean(),
  pick: fc.nat(1),
})

test('no operation of the table shows, changes or admits anything of another organisation or application', async () => {
  const before = await victimsRows()
  const refused = new Set<string>()
  const tryOne = async ({ operation: one, stranger, inOwnApplication, pick }: Attempt) => {
    const { method, variables, operation } = one
    const entersOwn = inOwnApplication && variables.includes('app_id') && variables.length > 1
    const names = { ...namesIn(one, pick), ...(entersOwn ? { app_id: own[stranger] } : {}) }
    const path = fill(one.path, names)
    const what = `${stranger}: ${method} ${path}`
    const { status, text } = await send(tokens[stranger], method, path)
    const isSibling = stranger === 'sibling'
    if (operation.access === 'organisation' && stranger !== 'organisation') assert.equal(status, 403, what)
    else if (variables.includes('app_id') && !entersOwn && !creates(one)) assert.equal(status, 404, what)
    else if (['get', 'head', 'delete', 'patch'].includes(method) && variables.length > 0) {
      // The name of an event type may be taken in every organisation.
      if (!variables.includes('event_type_name')) assert.equal(status, 404, what)
    }
    assert.ok(status < 500 || status === 501, `${what}: ${status}`)
    // Event types belong to the organisation: its applications read them.
    if (!(isSibling && one.path.startsWith('/event-type'))) assert.ok(!text.includes(MARKER), `${what} shows ${text}`)
    const foreign = Object.values(victim)
      .flat()
      .filter((id) => id.length > 20 && !path.includes(id) && !JSON.stringify(body()).includes(id))
    for (const id of foreign) assert.ok(!text.includes(id), `${what} shows ${id}`)
    if (status === 403 || status === 404) refused.add(`${method} ${one.path}`)
  }
  for (const operation of GUARDED) {
    for (const stranger of STRANGERS) await tryOne({ operation, stranger, inOwnApplication: false, pick: 0 })
  }
  await fc.assert(fc.asyncProperty(attempts, tryOne), { numRuns: RUNS })
  assert.equal(await victimsRows(), before)
  const named = GUARDED.filter((one) => one.variables.includes('app_id') && !creates(one)).map(({ method, path }) => `${method} ${path}`)
  assert.deepEqual(
    named.filter((one) => !refused.has(one)),
    [],
  )
})

test('without a token every operation but those for anyone is 401', async () => {
  for (const one of GUARDED) {
    const response = await fetch(`${api.url}/api/v1${fill(one.path, namesIn(one, 0))}`, { method: one.method.toUpperCase() })
    assert.equal(response.status, 401, `${one.method} ${one.path}`)
    await response.body?.cancel()
  }
})
