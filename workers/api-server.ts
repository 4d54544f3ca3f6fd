import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { ReadinessChecks } from '../api/dependencies.ts'
import { createApiServer } from '../api/http-server.ts'
import { notingWrites } from '../api/history.ts'
import { createIntake } from '../api/intake.ts'
import { createApi } from '../api/server.ts'
import { LIMITS } from '../domain/limits.ts'
import { writeGapMs } from '../domain/linger.ts'
import { createReadsOfPrimary } from '../storage/history/reads.ts'
import { createArchiveLookup, type ArchiveLookup } from '../storage/archive/lookup.ts'
import type { MailboxWake } from '../storage/records.ts'
import { renewEncryption } from '../storage/renew-encryption.ts'
import type { Dispatcher } from './dispatcher.ts'
import type { Metrics } from './metrics.ts'
import { createMailboxes } from './mailboxes.ts'
import type { Parts } from './parts.ts'
import { describeReplicas, startReplicas } from './replicas.ts'
import type { Crowding } from '../domain/crowding.ts'
import { createFindFanOut } from './find-fan-out.ts'
import { startRegional } from './regional.ts'
import type { Schedule } from './schedule.ts'
import type { Stack } from './stack.ts'
import type { Tracing } from './tracing.ts'
import { GROUP_LEASE_MS } from './group-starter.ts'
import { createLaunchTask } from './tasks.ts'
import { describeCopy } from './shared-configuration.ts'

const DRAIN_MS = 2000
const PROBE_TIMEOUT_MS = 2000

/**
 * Starts the API.
 * @param others the dispatcher of the same process, if it has one, what holds the time of scheduled messages, what counts
 * @returns its URL
 */
export async function startApiServer(
  parts: Parts,
  others: { dispatcher?: Dispatcher | undefined; schedule: Schedule; crowding: Crowding; metrics: Metrics; tracing: Tracing | undefined },
  stack: Stack,
): Promise<string> {
  const { config, pool, client, messages, configCache } = parts
  const mailboxes = createMailboxes({ ...parts, partitions: config.partitions, sweep: false })
  stack.push(() => mailboxes.stop())
  const wakeMailbox = (wake: MailboxWake) => mailboxes.wake(wake)
  const replicas = startReplicas(parts, others.metrics, stack)
  const history = replicas ?? createReadsOfPrimary(pool)
  const intake = createIntake({
    pool,
    messages,
    configCache,
    regions: config.regions,
    wakeMailbox,
    dispatcher: others.dispatcher,
    schedule: others.schedule,
    load: {
      crowding: others.crowding,
      inHand: others.dispatcher === undefined ? undefined : parts.inHand,
    },
    groupLeaseMs: GROUP_LEASE_MS,
    gapMs: () => writeGapMs(parts.utilisation()),
    weights: parts.config.priorityWeights,
  })
  const noted = replicas === undefined ? intake : notingWrites(intake, replicas)
  const api = createApi({
    ...parts,
    history,
    intake: others.metrics.accepting(others.tracing?.publishing(noted) ?? noted),
    launchTask: createLaunchTask(parts),
    findFanOut: createFindFanOut(client),
    wakeMailbox,
    regional: startRegional(parts, stack),
    archive: archiveLookupOf(parts),
    readiness: readinessOf(parts),
    details: {
      ...(parts.copy === undefined ? {} : { configuration: describeCopy(parts.copy) }),
      ...(replicas === undefined ? {} : describeReplicas(replicas)),
    },
  })
  const server = createApiServer(api)
  if (config.metricsPort !== undefined) others.metrics.requests(server)
  server.listen({ port: config.port, host: config.host, backlog: LIMITS.connectionsToAcceptMax })
  await once(server, 'listening')
  stack.push(async () => {
    await closeServer(server)
    await intake.drained()
  })
  if (config.previousEncryptionKeys.length > 0) stack.push(startRenewal(parts))
  const { port } = server.address() as AddressInfo
  return `http://${config.host === '0.0.0.0' ? '127.0.0.1' : config.host}:${port}`
}

function archiveLookupOf({ archiver, cipher, log }: Parts): ArchiveLookup | undefined {
  if (archiver === undefined) return undefined
  return createArchiveLookup({ store: archiver.store, cipher }, (error) => log.warn({ err: error }, 'archive.not-asked'))
}

/** @returns what stops it */
function startRenewal({ pool, cipher, configuration, log }: Parts): () => Promise<void> {
  let stopped = false
  const renewing = renewEncryption(pool, cipher, () => stopped, configuration).then(
    (values) => stopped || log.info({ values }, 'encryption.renewed'),
    (error: unknown) => log.error({ err: error }, 'encryption.renewal-failed'),
  )
  return async () => {
    stopped = true
    await renewing
  }
}

/** Requests under way are answered; a connection that stays open longer is cut. */
async function closeServer(server: Server): Promise<void> {
  // A busy client's connection is never idle, and would be cut in the middle of some later request.
  server.prependListener('request', (_request, response) => response.setHeader('connection', 'close'))
  const cut = setTimeout(() => server.closeAllConnections(), DRAIN_MS)
  await new Promise((resolve) => {
    server.close(resolve)
    server.closeIdleConnections()
  })
  clearTimeout(cut)
}

function readinessOf(parts: Parts): ReadinessChecks {
  const { pool, connection, config } = parts
  const describe = () => connection.workflowService.describeNamespace({ namespace: config.temporalNamespace })
  return {
    postgres: () => reasonFrom(() => pool.query('SELECT 1')),
    temporal: () => reasonFrom(() => connection.withDeadline(Date.now() + PROBE_TIMEOUT_MS, describe)),
  }
}

async function reasonFrom(probe: () => Promise<unknown>): Promise<string> {
  try {
    await probe()
    return ''
  } catch (error) {
    return error instanceof Error && error.message !== '' ? error.message.split('\n')[0]! : 'no answer'
  }
}
