import { readConfig, type Config } from '../config/index.ts'
import { ARCHIVE_TABLES, dayOf, type ArchiveManifest, type ArchiveTable } from '../domain/archive.ts'
import { isId, lowestIdAt } from '../domain/ids.ts'
import { listManifests } from '../storage/archive/manifests.ts'
import { openObjectStore } from '../storage/archive/open-store.ts'
import { restoreArchive } from '../storage/archive/restore.ts'
import {
  findArchivedMessage,
  searchArchive,
  type Archive,
  type FoundRow,
  type RowQuery,
  type SearchProgress,
} from '../storage/archive/search.ts'
import { verifyArchive } from '../storage/archive/verify.ts'
import { createCipher } from '../storage/cipher.ts'
import { createPool, type Pool } from '../storage/pool.ts'
import { replayRestored } from './archive/replay.ts'
import { describeManifests, describeReplayed, describeRestored, describeRow, describeVerified } from './archive/report.ts'
import { readOptions, runCommand } from './command.ts'
import { databaseUrlOf, readSecrets } from './data-dir.ts'
import { CommandFailure } from './failure.ts'
import { createProgress, type Progress } from './progress.ts'
import { durationOf, instantOf } from './time.ts'

const HELP = `npm run --silent archive -- <command> [options]

Message data that has left the database, in TIDINGS_ARCHIVE_URL. Reads it with TIDINGS_ENCRYPTION_KEY (and the previous ones).
list [--table message|attempt] [--from <time>] [--to <time>] [--json]
    Its days: rows, objects, bytes raw and stored.
search --id <msg_… or atmpt_…> [--attempts] [--json]
    One message, or one attempt, without restoring; --attempts shows the message's attempts too. Exit code 1 where it is not there.
search --app <app_…> [--from <time>] [--to <time>] [--table message|attempt] [--json]
    Rows of an application, messages unless told, one a line as they are found.
restore --name <name> [--from <time>] [--to <time>] [--app <app_…>] [--table message|attempt] [--json]
    Puts rows into the schema archive_<name> of DATABASE_URL (else of npm start here), in tables as the service has them, to be
    compared or replayed. The service does not look at them. Repeating it adds what is missing.
replay --name <name> [--app <app_…>[=<id or uid>]] … [--endpoint <id or uid>] … [--from <time>] [--to <time>] [--rate <n>]
       [--keep <time>] [--dry-run] [--json]
    Puts restored messages back into the service under their own ids, to be sent to endpoints that have no attempt of them: to those
    named (of one --app), else to all of the application. An application has its own id here, or the one after =. Repeating it sends
    nothing twice. --rate: deliveries put into the outbox a second, 100 unless told. --keep: how long the service keeps the messages, 7d.
verify [--table message|attempt] [--from <time>] [--to <time>] [--json]
    Reads every object, and compares checksums, rows and counts with the manifests. Exit code 1 where something is wrong.

A time is 2026-11-23, 2026-11-23T09:00:00Z, 12h or 40d; --from is included, --to is not. --json prints an object, of search one a line.`

const text = { type: 'string' } as const
const flag = { type: 'boolean', default: false } as const
const RANGE = { table: text, from: text, to: text, json: flag } as const
const several = { type: 'string', multiple: true } as const
const REPLAY = {
  ...{ name: text, from: text, to: text, json: flag, app: several, endpoint: several, 'dry-run': flag },
  rate: { type: 'string', default: '100' },
  keep: { type: 'string', default: '7d' },
} as const
const MAX_RATE = 1000
/** The archive reaches back as far as it reaches. */
const MAX_DAYS = 36_500
const SAY_EVERY_MS = 2000
const NAME = /^[a-z0-9_]{1,40}$/

/** @returns the exit code; nothing: 0 */
type ArchiveCommand = (args: readonly string[]) => Promise<number | void>

const COMMANDS: Readonly<Record<string, ArchiveCommand>> = {
  list: (args) => {
    const options = readOptions(args, RANGE)
    const filter = daysOf(rangeOf(options))
    return withArchive(async (archive) => {
      const manifests: ArchiveManifest[] = []
      for await (const manifest of listManifests(archive.store, filter)) manifests.push(manifest)
      print(options.json, { url: archive.store.url, manifests }, () => describeManifests(archive.store.url, manifests))
    })
  },
  search: (args) => {
    const options = readOptions(args, { ...RANGE, id: text, app: text, attempts: flag })
    if ((options.id === undefined) === (options.app === undefined)) throw usage('one of --id and --app is needed')
    const show = (found: FoundRow) => process.stdout.write(options.json ? `${JSON.stringify(found)}\n` : describeRow(found))
    return withArchive(async (archive, progress) => {
      const found =
        options.id === undefined
          ? await showRows(archive, queryOf(rangeOf(options), options.app), show, progress)
          : await showOne(archive, options.id, { attempts: options.attempts, show, progress })
      if (found === 0) throw new CommandFailure('not_archived', `nothing of ${options.id ?? options.app} is in ${archive.store.url}`)
    })
  },
  restore: (args) => {
    const options = readOptions(args, { ...RANGE, app: text, name: text })
    const range = rangeOf(options)
    const schema = schemaOf(options.name)
    return withArchive((archive, progress) =>
      withPool(async (pool) => {
        const say = saying(progress)
        const restored = await restoreArchive({
          ...{ ...archive, pool, schema },
          tables: range.table === undefined ? ARCHIVE_TABLES : [range.table],
          query: (table) => queryOf({ ...range, table }, options.app),
          progress: (table, told) => say(() => `${table}: ${describeSearch(told)}`),
        })
        print(options.json, { schema, ...restored }, () => describeRestored(schema, restored))
      }),
    )
  },
  replay: (args) => {
    const options = readOptions(args, REPLAY)
    const { fromMs, toMs } = rangeOf(options)
    const schema = schemaOf(options.name)
    const replay = {
      ...{ schema, fromMs, toMs, dryRun: options['dry-run'], applications: options.app ?? [], endpoints: options.endpoint ?? [] },
      rate: rateOf(options.rate),
      keepMs: durationOf('--keep', options.keep),
    }
    return withPool(async (pool, config, progress) => {
      const zone = config.regions?.own.zone ?? null
      const replayed = await replayRestored(pool, { ...replay, zone }, saying(progress))
      print(options.json, { schema, dryRun: replay.dryRun, applications: replayed }, () => describeReplayed(replayed, replay.dryRun))
    })
  },
  verify: (args) => {
    const options = readOptions(args, RANGE)
    const filter = daysOf(rangeOf(options))
    return withArchive(async (archive, progress) => {
      const say = saying(progress)
      const report = await verifyArchive(archive, filter, ({ day, objects, rows }) =>
        say(() => `${day}: ${objects} objects, ${rows} rows so far`),
      )
      print(options.json, report, () => describeVerified(report))
      return report.problems.length === 0 ? 0 : 1
    })
  },
}

await runCommand({
  help: HELP,
  async main([name = '', ...args]) {
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
    if (command === undefined) throw new CommandFailure('usage', `there is no command "${name}" (--help shows the commands)`)
    return (await command(args)) ?? 0
  },
})

function print(asJson: boolean, value: object, describe: () => string): void {
  process.stdout.write(asJson ? `${JSON.stringify(value)}\n` : describe())
}

function usage(problem: string): CommandFailure {
  return new CommandFailure('usage', `${problem} (--help shows the options)`)
}

async function withArchive(work: (archive: Archive, progress: Progress) => Promise<number | void>): Promise<number | void> {
  const config: Config = readConfig()
  if (config.archive === undefined) throw new CommandFailure('usage', 'set TIDINGS_ARCHIVE_URL: it names the archive')
  const { encryptionKey } = readSecrets({ ...config, jwtSecret: '' }, config.dataDir, false)
  const store = await openObjectStore(config.archive)
  try {
    return await work({ store, cipher: createCipher(encryptionKey, config.previousEncryptionKeys) }, createProgress())
  } finally {
    store.close()
  }
}

async function withPool(work: (pool: Pool, config: Config, progress: Progress) => Promise<void>): Promise<void> {
  const config = readConfig()
  const pool = createPool(databaseUrlOf(config), 2)
  try {
    await work(pool, config, createProgress())
  } finally {
    await pool.end()
  }
}

function schemaOf(name = ''): string {
  if (!NAME.test(name)) throw usage('--name must have lower-case letters, digits and _, 40 at most')
  return `archive_${name}`
}

function rateOf(text: string): number {
  const rate = Number(text)
  if (!Number.isInteger(rate) || rate < 1 || rate > MAX_RATE) throw usage(`--rate ${text}: must be 1 to ${MAX_RATE}`)
  return rate
}

interface Range {
  readonly table: ArchiveTable | undefined
  readonly fromMs: number | undefined
  readonly toMs: number | undefined
}

function rangeOf(options: { readonly table?: string; readonly from?: string; readonly to?: string }): Range {
  const nowMs = Date.now()
  const { table, from, to } = options
  if (table !== undefined && !isTable(table)) throw usage(`--table ${table}: must be ${ARCHIVE_TABLES.join(' or ')}`)
  const range = {
    table,
    fromMs: from === undefined ? undefined : instantOf('--from', from, nowMs, MAX_DAYS).getTime(),
    toMs: to === undefined ? undefined : instantOf('--to', to, nowMs, MAX_DAYS).getTime(),
  }
  if (range.fromMs !== undefined && range.toMs !== undefined && range.fromMs >= range.toMs) throw usage('--from must be before --to')
  return range
}

function isTable(name: string): name is ArchiveTable {
  return (ARCHIVE_TABLES as readonly string[]).includes(name)
}

/** Days that have some of the range. */
function daysOf({ table, fromMs, toMs }: Range) {
  return {
    table,
    fromDay: fromMs === undefined ? undefined : dayOf(fromMs),
    toDay: toMs === undefined ? undefined : dayOf(toMs - 1),
  }
}

function queryOf(range: Range, appId: string | undefined): RowQuery {
  const table = range.table ?? 'message'
  const prefix = table === 'message' ? 'msg' : 'atmpt'
  return {
    ...daysOf(range),
    ...{ table, appId },
    fromId: range.fromMs === undefined ? undefined : lowestIdAt(prefix, range.fromMs),
    toId: range.toMs === undefined ? undefined : lowestIdAt(prefix, range.toMs),
  }
}

type Show = (found: FoundRow) => void

async function showRows(archive: Archive, query: RowQuery, show: Show, progress: Progress): Promise<number> {
  const say = saying(progress)
  let found = 0
  for await (const row of searchArchive(archive, query, (told) => say(() => describeSearch(told)))) {
    show(row)
    found++
  }
  return found
}

interface OneOptions {
  readonly attempts: boolean
  readonly show: Show
  readonly progress: Progress
}

/** A message's attempts are of its own day, and of as many later ones as it was retried or sent again. */
async function showOne(archive: Archive, id: string, { attempts, show, progress }: OneOptions): Promise<number> {
  if (isId('atmpt', id)) return showRows(archive, { table: 'attempt', fromId: id, toId: `${id}~` }, show, progress)
  if (!isId('msg', id)) throw usage(`--id ${id}: must be the id of a message or of an attempt`)
  const message = await findArchivedMessage(archive, id)
  if (message === undefined) return 0
  show(message)
  if (!attempts) return 1
  const appId = message.row['app_id'] as string
  return 1 + (await showRows(archive, { table: 'attempt', appId, messageId: id, fromDay: message.day }, show, progress))
}

/** Says something every two seconds at most. */
function saying(progress: Progress): (describe: () => string) => void {
  let nextMs = Date.now() + SAY_EVERY_MS
  return (describe) => {
    if (Date.now() < nextMs) return
    nextMs = Date.now() + SAY_EVERY_MS
    progress.say(describe())
  }
}

function describeSearch({ day, parts, objectsRead, objects, found }: SearchProgress): string {
  return `${day}: ${found} found in ${objectsRead} of ${objects} objects, ${parts} parts so far`
}
