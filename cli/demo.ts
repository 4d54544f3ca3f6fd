import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { setTimeout as delay } from 'node:timers/promises'
import { createToken } from '../api/token.ts'
import { readConfig, type Config } from '../config/index.ts'
import { DEFAULT_ORGANISATION } from '../domain/default-organisation.ts'
import { runCommand } from './command.ts'
import { findService, readSecrets, type RunningService } from './data-dir.ts'
import { progressOf, readAttempts, readDeadLetters, table, type Receiver, type Run } from './demo-report.ts'
import { CommandFailure } from './failure.ts'
import { createRestClient, type RestClient } from './rest.ts'
import { workflowUrl } from './welcome.ts'

const HELP = `npm run demo

Publishes GitHub's example webhook payloads (npm package @octokit/webhooks-examples) to three receivers of the running
service: one healthy, one that fails the first two attempts of each, one that always answers 500. Shows what became of them.`

const PUBLISHERS = 16
const POLL_MS = 1000
const WAIT_MS = 300_000
/** Seconds: short, so that one sees the dead letters come while one watches. */
const RETRY_SCHEDULE_S = [1, 1, 2]

const RECEIVERS = [
  { name: 'healthy', path: '/inbox/demo-healthy' },
  { name: 'flaky', path: '/inbox/demo-flaky?failFirst=2' },
  { name: 'down', path: '/inbox/demo-down?status=500' },
] as const

interface Example {
  readonly name: string
  readonly examples: readonly Readonly<Record<string, unknown>>[]
}

await runCommand({ help: HELP, main })

async function main(): Promise<number> {
  const config = readConfig()
  const events = readExamples()
  const service = await locate(config)
  const { jwtSecret } = readSecrets(config, config.dataDir, false)
  const rest = createRestClient(service.url, await createToken({ secret: jwtSecret, subject: DEFAULT_ORGANISATION }))
  const app = await rest.post<{ id: string }>('/app', { name: 'Demo' })
  const receivers = await Promise.all(RECEIVERS.map((receiver) => createReceiver(rest, app.id, service.url, receiver)))
  const run: Run = { rest, appId: app.id, receivers, published: new Map(), total: events.length }
  await Promise.all([publishAll(run, events), watch(run)])
  process.stdout.write(`\n\n${table(run, await readAttempts(run), await readDeadLetters(run))}\n`)
  await showFailing(run, service)
  return 0
}

function readExamples(): { readonly eventType: string; readonly payload: unknown }[] {
  let file: string
  try {
    file = createRequire(import.meta.url).resolve('@octokit/webhooks-examples')
  } catch (cause) {
    throw new CommandFailure(
      'usage',
      'the example payloads (@octokit/webhooks-examples) are not installed: run npm ci with development packages',
      {
        cause,
      },
    )
  }
  const examples = JSON.parse(readFileSync(file, 'utf8')) as Example[]
  return examples.flatMap(({ name, examples: payloads }) =>
    payloads.map((payload) => ({ eventType: typeof payload['action'] === 'string' ? `${name}.${payload['action']}` : name, payload })),
  )
}

/** The service that npm start announced in the data directory, else the one on TIDINGS_PORT. */
async function locate(config: Config): Promise<RunningService> {
  const fallback = { url: `http://127.0.0.1:${config.port}`, temporalUiUrl: config.temporalUiUrl, namespace: config.temporalNamespace }
  for (const service of [findService(config.dataDir), fallback]) {
    if (service === undefined) continue
    const answer = await fetch(`${service.url}/api/v1/health`, { signal: AbortSignal.timeout(POLL_MS) }).catch(() => undefined)
    if (answer?.ok === true) return service
  }
  throw new CommandFailure('not_running', `no Tidings runs on ${fallback.url}: start it with npm start, or set TIDINGS_PORT to where it is`)
}

async function createReceiver(rest: RestClient, appId: string, url: string, { name, path }: (typeof RECEIVERS)[number]): Promise<Receiver> {
  const endpoint = await rest.post<{ id: string }>(`/app/${appId}/endpoint`, {
    url: `${url}${path}`,
    description: `Demo: ${name}`,
    retrySchedule: RETRY_SCHEDULE_S,
    // Two of the three fail more than a breaker lets through: it would hold them back for minutes.
    circuitBreaker: false,
  })
  return { name, endpointId: endpoint.id }
}

async function publishAll(run: Run, events: ReturnType<typeof readExamples>): Promise<void> {
  const queue = events.values()
  const publisher = async () => {
    for (const event of queue) {
      const message = await run.rest.post<{ id: string; timestamp: string }>(`/app/${run.appId}/msg`, event)
      run.published.set(message.id, Date.parse(message.timestamp))
    }
  }
  await Promise.all(Array.from({ length: PUBLISHERS }, publisher))
}

/** Shows one line that is written over, until every delivery has come to its end. */
async function watch(run: Run): Promise<void> {
  const deadline = performance.now() + WAIT_MS
  for (;;) {
    const { line, isOver } = progressOf(run, await readAttempts(run), await readDeadLetters(run))
    process.stdout.write(process.stdout.isTTY ? `\r\u001b[K${line}` : `${line}\n`)
    if (isOver) return
    if (performance.now() > deadline) {
      process.stdout.write(`\nnot everything came to its end in ${WAIT_MS / 1000} s; so far:`)
      return
    }
    await delay(POLL_MS)
  }
}

async function showFailing(run: Run, service: RunningService): Promise<void> {
  const [failing] = await readDeadLetters(run)
  if (failing === undefined) return
  const { workflowId } = await run.rest.get<{ workflowId?: string | null }>(`/app/${run.appId}/msg/${failing.msgId}`)
  process.stdout.write(`\nA failing delivery: message ${failing.msgId}\n`)
  if (service.temporalUiUrl !== undefined && workflowId !== undefined && workflowId !== null) {
    process.stdout.write(`  ${workflowUrl(service.temporalUiUrl, service.namespace, workflowId)}\n`)
  }
  process.stdout.write(`  Dead letters: ${service.url}/api/v1/app/${run.appId}/dead-letter\n`)
}
