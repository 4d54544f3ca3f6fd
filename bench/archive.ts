/** How many bytes message data takes in Postgres and in the archive: GitHub's example payloads, made different from each other. */
import { randomBytes, randomInt, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'
import { parseArgs } from 'node:util'
import { startPostgres } from '../cli/embedded/postgres.ts'
import { idsOfDay, type ArchiveManifest, type ArchivePart } from '../domain/archive.ts'
import { newId } from '../domain/ids.ts'
import { archiveRange } from '../storage/archive/archive-range.ts'
import { openObjectStore } from '../storage/archive/open-store.ts'
import { createCipher } from '../storage/cipher.ts'
import { migrate } from '../storage/migrate.ts'
import { createPool, type Pool } from '../storage/pool.ts'
import { createScratch } from '../test/support/scratch.ts'

const HELP = `npm run bench:archive -- [--messages 5000] [--applications 20] [--same]

Fills a Postgres of its own with one day of messages and their attempts (three endpoints each, one message in five fails up to
four times at one of them), archives it into a directory, and prints bytes. --same leaves the payloads as the examples are,
else ids, hashes, times, users and repositories differ from message to message.`

const DAY = '2026-08-20'
const DAY_MS = 86_400_000
const ENDPOINTS = 3
const TOGETHER = 250

interface Example {
  readonly name: string
  readonly examples: readonly object[]
}

const { values: options } = parseArgs({
  options: {
    messages: { type: 'string', default: '5000' },
    applications: { type: 'string', default: '20' },
    same: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
if (options.help) {
  process.stdout.write(`${HELP}\n`)
  process.exit(0)
}

/** What an event has in common with others of its repository and its users: their ids are the same each time. */
const STANDING = ['repository', 'organization', 'sender', 'installation', 'enterprise'] as const
const IDS = /\b[0-9a-f]{40}\b|"MD[A-Za-z0-9+/]{4}[A-Za-z0-9+/=]+"|\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|\b[1-9]\d{5,}\b/g
const standing = new Map<string, string>()

const texts = readExamples()
const [scratch, archived] = [createScratch('bench-postgres'), createScratch('bench-archive')]
const postgres = await startPostgres({ dataDir: scratch.path, port: 0, settings: { fsync: 'off' } })
const pool = createPool(postgres.url, 3)
try {
  await migrate(pool)
  await fill(pool, Number(options.messages), Number(options.applications))
  await report(pool)
} finally {
  await pool.end()
  await postgres.stop()
  scratch.remove()
  archived.remove()
}

function readExamples(): { readonly type: string; readonly text: string }[] {
  const file = createRequire(import.meta.url).resolve('@octokit/webhooks-examples')
  const examples = JSON.parse(readFileSync(file, 'utf8')) as Example[]
  return examples.flatMap(({ name, examples: all }) => all.map((payload) => ({ type: name, text: JSON.stringify(payload) })))
}

/** Another event of the same kind, of one of 40 repositories: each old id, hash, time or name becomes the same new one throughout. */
function varied(text: string, atMs: number): string {
  const repository = `repository-${randomInt(40)}`
  const payload = JSON.parse(text) as Readonly<Record<string, object | undefined>>
  const kept = new Set(STANDING.flatMap((name) => JSON.stringify(payload[name] ?? {}).match(IDS) ?? []))
  const known = new Map<string, string>()
  const replaced = (old: string): string => {
    const [names, name] = kept.has(old) ? [standing, `${repository} ${old}`] : [known, old]
    if (!names.has(name)) names.set(name, another(old, atMs))
    return names.get(name)!
  }
  return text
    .replaceAll('Hello-World', repository)
    .replaceAll('Codertocat', `user-${randomInt(200)}`)
    .replaceAll(IDS, replaced)
}

function another(old: string, atMs: number): string {
  if (old.startsWith('"')) return `"MDEwOlJlcG9zaXRvcnk${randomBytes(9).toString('base64')}"`
  if (old.endsWith('Z')) return new Date(atMs - randomInt(DAY_MS)).toISOString().replace(/\.\d+/, '')
  if (/^\d+$/.test(old)) return String(randomInt(10 ** (Math.min(old.length, 14) - 1), 10 ** Math.min(old.length, 14)))
  return randomBytes(20).toString('hex')
}

type Message = readonly [id: string, appId: string, type: string, payload: string, atMs: number]
type Attempt = readonly [
  ...[messageId: string, id: string, endpointId: string, appId: string, type: string, status: number, code: number, body: string],
  ...[ms: number, groupId: string, runId: string, atMs: number],
]

async function fill(into: Pool, messages: number, applications: number): Promise<void> {
  const endpoints = Array.from({ length: applications }, () => ({
    appId: newId('app'),
    ids: Array.from({ length: ENDPOINTS }, () => newId('ep')),
  }))
  let [some, attempts]: [Message[], Attempt[]] = [[], []]
  for (let i = 0; i < messages; i++) {
    const atMs = Date.parse(DAY) + Math.floor((i * (DAY_MS - 600_000)) / messages)
    const { appId, ids } = endpoints[randomInt(endpoints.length)]!
    const { type, text } = texts[randomInt(texts.length)]!
    const id = newId('msg', atMs)
    some.push([id, appId, type, options.same ? text : varied(text, atMs), atMs])
    for (const [n, endpointId] of ids.entries()) attempts.push(...attemptsOf({ id, appId, type, endpointId, atMs }, n === 0 && i % 5 === 0))
    if (some.length < TOGETHER && i < messages - 1) continue
    await insert(into, some, attempts)
    ;[some, attempts] = [[], []]
  }
}

function attemptsOf(of: { id: string; appId: string; type: string; endpointId: string; atMs: number }, fails: boolean): Attempt[] {
  const failures = fails ? randomInt(1, 5) : 0
  return Array.from({ length: failures + 1 }, (_, n) => {
    const atMs = of.atMs + 40 + n * 30_000 + randomInt(2000)
    const failed = n < failures
    const body = failed
      ? '<html><head><title>503 Service Temporarily Unavailable</title></head><body><center><h1>503 Service Temporarily Unavailable</h1></center><hr><center>nginx</center></body></html>'
      : '{"ok":true}'
    const shown = [of.id, newId('atmpt', atMs), of.endpointId, of.appId, of.type, failed ? 2 : 0, failed ? 503 : 200, body] as const
    return [...shown, randomInt(5, 400), of.id, randomUUID(), atMs] as const
  })
}

async function insert(into: Pool, messages: readonly Message[], attempts: readonly Attempt[]): Promise<void> {
  const columns = <Row extends readonly unknown[]>(rows: readonly Row[]) => rows[0]!.map((_, i) => rows.map((row) => row[i]))
  await into.query(
    `INSERT INTO message (id, app_id, event_type, payload, created_at, expires_at)
     SELECT id, app, type, payload, to_timestamp(ms / 1000), to_timestamp(ms / 1000) + interval '90 days'
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::float8[]) AS t (id, app, type, payload, ms)`,
    columns(messages),
  )
  await into.query(
    `INSERT INTO attempt (message_id, id, endpoint_id, app_id, event_type, url, status, response_code, response_body, duration_ms, trigger,
       group_id, run_id, next_attempt_at, created_at)
     SELECT m, id, e, app, type, 'https://hooks.example.com/github/' || e, status, code, body, ms, 0, g, run,
       CASE WHEN status > 0 THEN to_timestamp(at / 1000) + interval '30 s' END, to_timestamp(at / 1000)
     FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::int[], $8::text[], $9::int[], $10::text[], $11::uuid[],
       $12::float8[]) AS t (m, id, e, app, type, status, code, body, ms, g, run, at)`,
    columns(attempts),
  )
}

async function report(from: Pool): Promise<void> {
  const store = await openObjectStore({ url: pathToFileURL(archived.path).href })
  const cipher = createCipher('a key for benchmarks, 32 characters or more')
  const before = Math.round(process.resourceUsage().maxRSS / 1024)
  const parts: ArchivePart[] = [
    { table: 'message', outcome: null, day: DAY },
    { table: 'attempt', outcome: 'success', day: DAY },
    { table: 'attempt', outcome: 'failure', day: DAY },
  ]
  const done: { manifest: ArchiveManifest; ms: number }[] = []
  for (const part of parts) {
    const startedAt = performance.now()
    const { manifest } = await archiveRange({
      pool: from,
      store,
      cipher,
      owner: { region: 'local', zone: null },
      ...part,
      ...idsOfDay(part.table, DAY),
    })
    done.push({ manifest, ms: performance.now() - startedAt })
  }
  const sizes = { message: await sizeOf(from, 'message'), attempt: await sizeOf(from, 'attempt') }
  const attempts = done.slice(1).reduce((all, { manifest }) => all + manifest.rows, 0)
  const lines = done.map(({ manifest, ms }) => {
    const table = manifest.table === 'message' ? sizes.message : (sizes.attempt * manifest.rows) / attempts
    return line(`${manifest.table} ${manifest.outcome ?? ''}`, { ...manifest, table }, ms)
  })
  const sum = (of: (manifest: ArchiveManifest) => number) => done.reduce((all, { manifest }) => all + of(manifest), 0)
  const total = { rows: sum((one) => one.rows), rawBytes: sum((one) => one.rawBytes), bytes: sum((one) => one.bytes) }
  const ms = done.reduce((all, one) => all + one.ms, 0)
  lines.push(line('together', { ...total, table: sizes.message + sizes.attempt }, ms))
  const memory = Math.round(process.resourceUsage().maxRSS / 1024)
  lines.push(
    `memory of this process: ${before} MB before, ${memory} MB at most; ${done.map((one) => one.manifest.objects.length).join(', ')} objects\n`,
  )
  process.stdout.write(`rows of: rows, bytes a row (table, JSON, archived), ratio (table, JSON), JSON MB/s\n${lines.join('')}`)
}

function line(
  name: string,
  { rows, rawBytes, bytes, table }: { rows: number; rawBytes: number; bytes: number; table: number },
  ms: number,
): string {
  const each = [table, rawBytes, bytes].map((all) => (all / rows).toFixed(0).padStart(7)).join('')
  const ratios = `${(table / bytes).toFixed(1).padStart(7)}${(rawBytes / bytes).toFixed(1).padStart(7)}`
  return `${name.padEnd(16)}${String(rows).padStart(8)}${each}${ratios}${(rawBytes / 1000 / ms).toFixed(1).padStart(8)}\n`
}

async function sizeOf(from: Pool, table: string): Promise<number> {
  const { rows } = await from.query<{ bytes: number }>('SELECT pg_total_relation_size($1::regclass) AS bytes', [table])
  return rows[0]!.bytes
}
