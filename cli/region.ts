import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { readConfig, readConfigOfRegions, type Config } from '../config/index.ts'
import { LIMITS } from '../domain/limits.ts'
import type { Regions } from '../domain/regions.ts'
import { createPool } from '../storage/pool.ts'
import { createOpenWorkflows } from '../workers/open-workflows.ts'
import { readOptions, runCommand } from './command.ts'
import { CommandFailure } from './failure.ts'
import { createProgress } from './progress.ts'
import { addRegion } from './regions/add.ts'
import { deliverUnreplicated } from './regions/failback.ts'
import { failOverRegion } from './regions/failover.ts'
import { namespaceOf } from './regions/region-cluster.ts'
import { describeAdded, describeFailover, describeLag, describeStatus, describeUnreplicated, describeWayHome } from './regions/report.ts'
import { createStandby, lagOf, promote } from './regions/standby.ts'
import { regionStatus } from './regions/status.ts'
import { compareUnreplicated, type UnreplicatedReport } from './regions/unreplicated.ts'
import { stopRequested } from './stopping.ts'
import { connectTemporal } from './temporal-client.ts'
import { durationOf, instantOf } from './time.ts'

const HELP = `npm run --silent region -- <command> [options]

TIDINGS_REGIONS_FILE names the regions of the first four, TEMPORAL_TLS … how their Temporal clusters are reached.
add <region> [--json]
    Has the Temporal clusters of the region and its peers know each other, and replicates its namespace. Repeating it changes
    nothing.
status [--database <region>=<url> …] [--json]
    All regions: API, Temporal, where each namespace is active, and of the databases named how far standbys are behind. Exit
    code 1 where something does not answer or clusters disagree.
failover <region> --to <peer> --standby <url> [--primary <url>] [--since 1h] [--force] [--dry-run] [--json]
    After a disaster: makes the peer's Temporal cluster active, promotes the standby, and reconciles what was accepted --since.
    Refused where the region's API or the --primary still answers.
failover <region> --to <peer> --standby <url> --primary <url> --planned [--drain 60s] [--force] [--dry-run] [--json]
    While all answer, without a loss: waits --drain until the region's processes have ended, makes the primary read-only, and
    hands over. --to may be the region itself, to move it home.
failback <region> --from <peer> --old <url> --new <url> [--since 24h] [--json]
    When a lost region has returned: makes its old primary read-only, delivers what it alone had accepted at the new one, and
    says what is to be done next. Repeating it has no effect.

drill [--regions 2|4] [options]
    Runs regions on this machine, kills one and moves it about, and accounts for every delivery: npm run drill:regions -- --help
standby create --primary <url> --data-dir <folder> --name <name> [--tools <folder>]
    Copies a region's Postgres, with a replication slot, so that the embedded Postgres on that folder is its standby.
standby lag --url <url> [--json]
    How far behind a standby is, in bytes and milliseconds: asked of the primary, or of the standby itself.
standby promote --url <url>
    Makes the standby a primary.
unreplicated --old <url> --new <url> [--since 24h] [--json] [--deliver]
    What a lost primary that has returned had accepted and its standby had not when it was promoted: a line for each message,
    compared by ids. --deliver accepts them at the new primary, under their own ids and in their order, and asks the Temporal of
    TEMPORAL_ADDRESS which fan-outs go on by themselves; repeating it has no effect.`

const DRILL = join(import.meta.dirname, '..', 'bench', 'drill-regions.ts')

const text = { type: 'string' } as const
const flag = { type: 'boolean', default: false } as const

/** The exit code; nothing: 0. */
type RegionCommand = (args: readonly string[]) => Promise<number | void>

const COMMANDS: Readonly<Record<string, RegionCommand>> = {
  add: async (args) => {
    const { region, rest, config, regions } = aboutRegion(args)
    const options = readOptions(rest, { json: flag })
    const report = await addRegion({ regions, region, access: config.temporalAccess, progress: createProgress() })
    print(options.json, report, () => describeAdded(report, (name) => regions.get(name).temporalAddress))
  },
  status: async (args) => {
    const options = readOptions(args, { database: { ...text, multiple: true, default: [] }, json: flag })
    const { config, regions } = allRegions()
    const databases = Object.fromEntries(options.database.map((one) => databaseOf(one, regions)))
    const status = await regionStatus({ regions, databases, access: config.temporalAccess })
    print(options.json, status, () => describeStatus(status))
    return status.problems.length === 0 ? 0 : 1
  },
  failover: async (args) => {
    const { region, rest, config, regions } = aboutRegion(args)
    const options = readOptions(rest, {
      ...{ to: text, standby: text, primary: text, planned: flag, force: flag, 'dry-run': flag, json: flag },
      ...{ drain: { ...text, default: '60s' }, since: { ...text, default: '1h' } },
    })
    const report = await failOverRegion({
      ...{ regions, region, access: config.temporalAccess, partitions: config.partitions, progress: createProgress() },
      to: known('--to', required('--to', options.to), regions),
      standbyUrl: required('--standby', options.standby),
      primaryUrl: options.primary,
      planned: options.planned ? { drainMs: durationOf('--drain', options.drain) } : undefined,
      force: options.force,
      dryRun: options['dry-run'],
      since: instantOf('--since', options.since, Date.now(), LIMITS.historyMaxDays),
    })
    print(options.json, report, () => describeFailover(report, regions.get(region)))
    return report.reconcileFailure === undefined ? 0 : 1
  },
  failback: async (args) => {
    const { region, rest, config, regions } = aboutRegion(args)
    const options = readOptions(rest, { from: text, old: text, new: text, since: { ...text, default: '24h' }, json: flag })
    const from = known('--from', required('--from', options.from), regions)
    const sinceMs = instantOf('--since', options.since, Date.now(), LIMITS.historyMaxDays).getTime()
    const place = { temporalAddress: regions.get(from).temporalAddress, temporalNamespace: namespaceOf(region) }
    const temporal = await connectTemporal({ ...config, ...place })
    try {
      const report = await deliverUnreplicated({
        ...{ oldUrl: required('--old', options.old), newUrl: required('--new', options.new), sinceMs },
        ...{ openWorkflows: createOpenWorkflows(temporal.client), progress: createProgress() },
      })
      print(options.json, report, () => `${describeUnreplicated(report)}${describeWayHome(region, from)}`)
    } finally {
      await temporal.close()
    }
  },
  drill: async (args) => {
    if (!existsSync(DRILL)) throw new CommandFailure('usage', 'the drill is in a clone of the repository, and this is none')
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', DRILL, ...args], { stdio: 'inherit' })
    // It ends what it has started before it ends.
    void stopRequested().then(() => child.kill('SIGTERM'))
    const [code] = (await once(child, 'exit')) as [number | null]
    return code ?? 1
  },
  'standby create': async (args) => {
    const options = readOptions(args, { primary: text, 'data-dir': text, name: text, tools: text })
    const dataDir = resolve(required('--data-dir', options['data-dir']))
    const primaryUrl = required('--primary', options.primary)
    const name = required('--name', options.name)
    mkdirSync(dataDir, { recursive: true })
    const { cacheDir } = readConfigOfRegions()
    await createProgress().step(`copying ${new URL(primaryUrl).host}`, () =>
      createStandby({ primaryUrl, dataDir, name, tools: options.tools, cacheDir }),
    )
    process.stdout.write(`${dataDir}\n`)
  },
  'standby lag': async (args) => {
    const options = readOptions(args, { url: text, json: flag })
    const state = await lagOf(required('--url', options.url))
    if (options.json) return void process.stdout.write(`${JSON.stringify(state)}\n`)
    process.stdout.write(`${describeLag(state)}\n`)
  },
  'standby promote': async (args) => {
    const url = required('--url', readOptions(args, { url: text }).url)
    await promote(url)
    process.stdout.write(`${new URL(url).host} is a primary\n`)
  },
  unreplicated: async (args) => {
    const options = readOptions(args, { old: text, new: text, since: { ...text, default: '24h' }, json: flag, deliver: flag })
    const old = createPool(required('--old', options.old), 1)
    const current = createPool(required('--new', options.new), 3)
    try {
      const sinceMs = instantOf('--since', options.since, Date.now(), LIMITS.historyMaxDays).getTime()
      const report = await compare({ old, current, sinceMs }, options.deliver)
      process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : describeUnreplicated(report))
    } finally {
      await Promise.all([old.end(), current.end()])
    }
  },
}

await runCommand({
  help: HELP,
  async main(args) {
    const words = Object.hasOwn(COMMANDS, args[0] ?? '') ? 1 : 2
    const name = args.slice(0, words).join(' ')
    const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined
    if (command === undefined) throw new CommandFailure('usage', `there is no command "${name}" (--help shows the commands)`)
    return (await command(args.slice(words))) ?? 0
  },
})

function print(asJson: boolean, value: object, describe: () => string): void {
  process.stdout.write(asJson ? `${JSON.stringify(value)}\n` : describe())
}

function allRegions(): { readonly config: Config; readonly regions: Regions } {
  const config = readConfigOfRegions()
  if (config.regions === undefined) throw new CommandFailure('usage', 'set TIDINGS_REGIONS_FILE: it names the regions')
  return { config, regions: config.regions }
}

/** The region is the first argument. */
function aboutRegion([region = '', ...rest]: readonly string[]) {
  const all = allRegions()
  return { region: known('', region, all.regions), rest, ...all }
}

function known(option: string, region: string, regions: Regions): string {
  if (regions.has(region)) return region
  const names = regions.all.map(({ name }) => name).join(', ')
  throw new CommandFailure(
    'usage',
    `${`${option} ${region}`.trim() || 'no region is named'}: the regions are ${names} (--help shows the options)`,
  )
}

/** As `us-east=postgres://…`. */
function databaseOf(text: string, regions: Regions): readonly [string, string] {
  const [name = '', ...url] = text.split('=')
  if (url.length === 0 || !URL.canParse(url.join('='))) throw new CommandFailure('usage', '--database must be <region>=<url>')
  return [known('--database', name, regions), url.join('=')]
}

function required(option: string, value: string | undefined): string {
  if (value === undefined || value === '') throw new CommandFailure('usage', `${option} is missing (--help shows the options)`)
  return value
}

async function compare(request: Omit<Parameters<typeof compareUnreplicated>[0], 'deliver'>, deliver: boolean): Promise<UnreplicatedReport> {
  const progress = createProgress()
  if (!deliver) return compareUnreplicated(request, progress)
  const temporal = await connectTemporal(readConfig())
  try {
    return await compareUnreplicated({ ...request, deliver: createOpenWorkflows(temporal.client) }, progress)
  } finally {
    await temporal.close()
  }
}
