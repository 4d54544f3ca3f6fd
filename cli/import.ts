import { createToken } from '../api/token.ts'
import { readConfig, type Config } from '../config/index.ts'
import { DEFAULT_ORGANISATION } from '../domain/default-organisation.ts'
import { readOptions, runCommand } from './command.ts'
import { findService, readSecrets } from './data-dir.ts'
import { CommandFailure } from './failure.ts'
import { createSvixApi } from './import/client.ts'
import { copyAll, KINDS, type ImportResult } from './import/copy.ts'
import { createProgress } from './progress.ts'

const HELP = `npm run --silent import -- --from svix --url <address> --token <token> [options]

Copies event types, applications, and endpoints with their secrets and headers from a Svix server into Tidings, through the
API of both. What is there already is brought to the source's state, the rest is left alone: run it as often as you like.
  --url <address>       the Svix server: https://svix.example.com
  --token <token>       of the organisation there
  --to <address>        Tidings (the one that npm start runs here, else TIDINGS_PORT)
  --to-token <token>    of the organisation there (the default one, signed with the secret of npm start or TIDINGS_JWT_SECRET)
  --dry-run             only tells what would be copied

What cannot be read from a server cannot be copied, and is listed: values of sensitive headers, asymmetric keys. Messages stay where they are.`

const OUTCOMES = ['copied', 'changed', 'unchanged', 'failed'] as const

await runCommand({
  help: HELP,
  async main(args) {
    const options = readOptions(args, {
      from: { type: 'string' },
      url: { type: 'string' },
      token: { type: 'string' },
      to: { type: 'string' },
      'to-token': { type: 'string' },
      'dry-run': { type: 'boolean' },
    })
    if (options.from !== 'svix') throw new CommandFailure('usage', `--from ${options.from ?? ''}: must be svix (--help shows the options)`)
    const from = { url: address('--url', options.url), token: required('--token', options.token) }
    const to = await targetOf(readConfig(), options)
    if (from.url === to.url && from.token === to.token) throw new CommandFailure('usage', 'source and target are the same organisation')
    const source = createSvixApi('The source', from.url, from.token)
    const target = createSvixApi('Tidings', to.url, to.token)
    const dryRun = options['dry-run'] === true
    const result = await copyAll(source, target, { dryRun, progress: createProgress() })
    process.stdout.write(report(result, dryRun))
    return result.problems.length === 0 ? 0 : 1
  },
})

function required(option: string, value: string | undefined): string {
  if (value === undefined || value === '') throw new CommandFailure('usage', `${option} is missing (--help shows the options)`)
  return value
}

/** An address without what follows the host and a prefix: `/api/v1` at its end is taken off. */
function address(option: string, value: string | undefined): string {
  const text = required(option, value)
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:')
    throw new CommandFailure('usage', `${option} ${text}: must be an http or https address`)
  return `${url.origin}${url.pathname.replace(/(\/api\/v1)?\/*$/, '')}`
}

async function targetOf(config: Config, options: { to?: string; 'to-token'?: string }): Promise<{ url: string; token: string }> {
  const url =
    options.to === undefined ? (findService(config.dataDir)?.url ?? `http://127.0.0.1:${config.port}`) : address('--to', options.to)
  if (options['to-token'] !== undefined) return { url, token: options['to-token'] }
  const { jwtSecret } = readSecrets(config, config.dataDir, false)
  return { url, token: await createToken({ secret: jwtSecret, subject: DEFAULT_ORGANISATION }) }
}

function report({ tally, notes, problems }: ImportResult, dryRun: boolean): string {
  const line = (name: string, cells: readonly (string | number)[]) =>
    `${name.padEnd(14)}${cells.map((cell) => String(cell).padStart(11)).join('')}`
  const lines = [
    ...(dryRun ? ['Nothing was written: this is what would become of each.'] : []),
    line('', OUTCOMES),
    ...KINDS.map((kind) =>
      line(
        kind,
        OUTCOMES.map((outcome) => tally[kind][outcome]),
      ),
    ),
    ...notes.map((note) => `note: ${note}`),
    ...problems.map((problem) => `failed: ${problem}`),
  ]
  return `${lines.join('\n')}\n`
}
