import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { startApi, type Harness } from './harness.ts'
import { differences, type Document } from './openapi-differences.ts'

let api: Harness
let here: Document
before(async () => {
  api = await startApi()
  here = (await (await fetch(`${api.url}/api/v1/openapi.json`)).json()) as Document
})
after(() => api.close())

/** Differences from the reference document that are meant, each with its reason. */
const MEANT: readonly (readonly [RegExp, string])[] = [
  [/ query limit (maximum: nothing there, 250|default: nothing there, 50) here$/, 'the reference has these rules without telling them'],
  [/ query iterator (pattern|maxLength): /, 'iterators are ids (of event types names), as those of the reference are'],
  [/ idempotency-key maxLength: nothing there, 256 here$/, 'everything that is kept is bounded'],
  [
    /^(Application|Endpoint|EventType)\w+\.\w+( additionalProperties)? pattern: nothing there, "\^\[\^\\\\u0000-\\\\u0008\]\*\$" here$/,
    'the reference refuses control characters without telling so',
  ],
  [/^(Application|Endpoint|EventType)\w+\.(name|description) maxLength: nothing there, 1024 here$/, 'text is bounded'],
  [/^ApplicationPatch\.name minLength: nothing there, 1 here$/, 'an application has a name after a patch too'],
  [/^Endpoint\w+\.url maxLength: (65536|nothing) there, 2048 here$/, 'URLs are bounded'],
  [/^(Message|AppPortal)\w+Out\.url maxLength: 65536 there, 2048 here$/, 'URLs are bounded'],
  [/^Endpoint\w+\.url pattern: nothing there/, 'the reference refuses other schemes than http and https without telling so'],
  [/\.throttleRate maximum: nothing there, 65535 here$/, 'the greatest uint16'],
  [/Patch\.throttleRate minimum: 0 there, 1 here$/, 'a rate of none is told by null or `disabled`, as in the bodies that create'],
  [/\.metadata nullable: false there, true here$/, 'null is taken as no metadata, which the reference does too'],
  [/^MessageIn\.payloadRetentionPeriod nullable: false there, true here$/, 'clients write null for an absent field'],
  [/^AppPortalAccessIn\.featureFlags (nullable|maxItems): /, 'clients write null for an absent field; lists are bounded'],
  [
    /(In|Update|Patch)\.\w+ uniqueItems: true there, nothing here$/,
    'duplicates are taken, and fall together, which the reference does too',
  ],
  [/ query event_types uniqueItems: true there, nothing here$/, 'duplicates are taken, and fall together, which the reference does too'],
  [/ channel maxLength: 128 there, 256 here$/, 'channels are names, as long as the server of the reference takes them'],
  [/\.channels items maxLength: 128 there, 256 here$/, 'channels are names, as long as the server of the reference takes them'],
  [/^EndpointPatch\.(channels|eventTypes) (minItems|maxItems): nothing there/, 'the same bounds as in the bodies that create'],
  [/^Endpoint(In|Update)\.eventTypes maxItems: nothing there, 512 here$/, 'lists are bounded'],
  [/\.eventTypes items pattern: /, 'endpoints subscribe to wildcards too'],
  [
    /^Endpoint(In|SecretRotateIn)\.(secret|key) pattern: /,
    'the server of the reference takes no secret without its prefix; ed25519 secrets are taken',
  ],
  [/^EndpointSecretOut\.key pattern: /, 'of an ed25519 secret the public half is shown'],
  [/^EndpointHeaders(In|PatchIn)\.headers additionalProperties (pattern|maxLength): nothing there/, 'what can stand in a header'],
  [/^BackgroundTask(Status|Type) enum: /, 'more tasks run in the background, and their end can be read'],
  [
    /secret\/rotate (204: missing|200: here only)$/,
    "the Python client reads the new secret from a body, and fails on the reference's empty answer",
  ],
  [/ path attempt_id (pattern|maxLength): nothing there/, 'ids have the characters of names'],
  [/^delete .*\/content 204: here only$/, 'the reference answers 204 without telling so'],
  [/^(get|head) \/api\/v1\/health (204: missing|200: here only)$/, 'health is answered 200, as the server of the reference does'],
  [/^(get|head) \/api\/v1\/health (401|403|404|409|422|429): missing$/, 'health asks for no token and refuses nobody'],
  [/^head \/api\/v1\/health operationId: /, 'operation ids are unique'],
]

test('the document has every path, method, parameter and field of the reference, but for differences that are meant', () => {
  const there = JSON.parse(readFileSync(new URL('../reference/svix-openapi.json', import.meta.url), 'utf8')) as Document
  assert.ok(Object.keys(there.paths).length === 26)
  const found = differences(there, here)
  const surprising = found.filter((line) => !MEANT.some(([pattern]) => pattern.test(line)))
  assert.deepEqual(surprising, [])
  const stale = MEANT.filter(([pattern]) => !found.some((line) => pattern.test(line)))
  assert.deepEqual(stale, [])
})

test('operation ids are unique, and every reference of the document leads somewhere', () => {
  const operations = Object.values(here.paths).flatMap((methods) => Object.values(methods))
  const ids = operations.map(({ operationId }) => operationId)
  assert.equal(new Set(ids).size, ids.length)
  const references = [...JSON.stringify(here).matchAll(/"\$ref":"#\/components\/(schemas|responses)\/([^"]+)"/g)]
  assert.ok(references.length > 100)
  for (const [, section, name] of references) {
    assert.ok(section === 'schemas' || section === 'responses')
    assert.ok(here.components[section]?.[name!] !== undefined, name)
  }
})

test('every documented operation is served, and asks for a token unless it says otherwise', async () => {
  for (const [path, methods] of Object.entries(here.paths)) {
    const address = `${api.url}${path.replaceAll(/\{\w+\}/g, 'unknown')}`
    for (const [method, operation] of Object.entries(methods)) {
      const { status } = await fetch(address, { method: method.toUpperCase() })
      const isOpen = 'security' in operation
      assert.ok(isOpen ? status < 300 : status === 401, `${method} ${path} answered ${status}`)
    }
  }
})

test('the page for readers has every operation and schema, no script, and nothing from elsewhere', async () => {
  const answer = await fetch(`${api.url}/docs`)
  const page = await answer.text()
  assert.equal(answer.status, 200)
  assert.match(answer.headers.get('content-security-policy') ?? '', /^default-src 'none'; style-src 'self'/)
  assert.doesNotMatch(page, /<script|<style|\sstyle=|\son\w+=|(?:src|href)="(?!#|\/docs\/style\.css|\/api\/v1\/openapi\.json)/)
  for (const methods of Object.values(here.paths)) {
    for (const { operationId } of Object.values(methods)) assert.ok(page.includes(`id="${operationId}"`), operationId)
  }
  for (const name of Object.keys(here.components.schemas)) assert.ok(page.includes(`id="${name}"`), name)
  const links = [...page.matchAll(/href="#([^"]+)"/g)].map(([, id]) => id!)
  for (const id of new Set(links)) assert.ok(page.includes(`id="${id}"`), id)
  const style = await fetch(`${api.url}/docs/style.css`)
  assert.match(style.headers.get('content-type') ?? '', /^text\/css/)
})
