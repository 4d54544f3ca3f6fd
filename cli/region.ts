import { mkdirSync } from 'node:fs'
import { resolve } from 'node:path'
import { readConfig } from '../config/index.ts'
import { LIMITS } from '../domain/limits.ts'
import { createPool } from '../storage/pool.ts'
import { createOpenWorkflows } from '../workers/open-workflows.ts'
import { readOptions, runCommand } from './command.ts'
import { CommandFailure } from './failure.ts'
import { createProgress } from './progress.ts'
import { createStandby, lagOf, promote } from './regions/standby.ts'
import { compareUnreplicated, type UnreplicatedReport } from './regions/unreplicated.ts'
import { connectTemporal } from './temporal-client.ts'
import { instantOf } from './time.ts'

const HELP = `npm run --silent region -- <command> [options]

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

const text = { type: 'string' } as const
const flag = { type: 'boolean', default: false } as const

const COMMANDS: Readonly<Record<string, (args: readonly string[]) => Promise<void>>> = {
  'standby create': async (args) => {
    const options = readOptions(args, { primary: text, 'data-dir': text, name: text, tools: text })
    const dataDir = resolve(required('--data-dir', options['data-dir']))
    const primaryUrl = required('--primary', options.primary)
    const name = required('--name', options.name)
    mkdirSync(dataDir, { recursive: true })
    const { cacheDir } = readConfig()
    await createProgress().step(`copying ${new URL(primaryUrl).host}`, () =>
      createStandby({ primaryUrl, dataDir, name, tools: options.tools, cacheDir }),
    )
    process.stdout.write(`${dataDir}\n`)
  },
  'standby lag': async (args) => {
    const options = readOptions(args, { url: text, json: flag })
    const state = await lagOf(required('--url', options.url))
    if (options.json) return void process.stdout.write(`${JSON.stringify(state)}\n`)
    const own = `standby, ${state.connected ? 'connected' : 'NOT connected'}: ${state.bytes} bytes, ${Math.round(state.ms)} ms behind`
    const lines = state.standbys.map(({ name, state: how, bytes, ms }) => `${name}: ${how}, ${bytes} bytes, ${Math.round(ms)} ms behind`)
    process.stdout.write(`${state.isStandby ? own : ['primary', ...lines].join('\n')}\n`)
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
      process.stdout.write(options.json ? `${JSON.stringify(report)}\n` : describe(report))
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
    await command(args.slice(words))
    return 0
  },
})

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

function describe({ compared, missing, known, gone, accepted, put, carried }: UnreplicatedReport): string {
  const lines = [
    ...missing.map((one) => `${one.messageId}  ${one.appId}  ${one.acceptedAt}`),
    `${compared} messages compared: ${missing.length} missing, ${known.length} published again since, ${gone} of erased applications`,
    `${accepted} accepted here, ${put} deliveries put into the outbox, ${carried} messages go on in a fan-out that was open`,
  ]
  return `${lines.join('\n')}\n`
}
