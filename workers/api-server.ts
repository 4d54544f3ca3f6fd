import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { ApiDependencies, ApiShards, ReadinessChecks } from '../api/dependencies.ts'
import { createApiServer } from '../api/http-server.ts'
import { notingWrites } from '../api/history.ts'
import { createIntake } from '../api/intake.ts'
import { createApi } from '../api/server.ts'
import { createShardedIntake } from '../api/sharded-intake.ts'
import { LIMITS } from '../domain/limits.ts'
import { COMMIT_GAP_MAX_MS, writeGapMs } from '../domain/linger.ts'
import { createReadsOfPrimary } from '../storage/history/reads.ts'
import { createArchiveLookup, type ArchiveLookup } from '../storage/archive/lookup.ts'
import type { ConfigCache } from '../storage/config-cache.ts'
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
import { createSchedule, type Schedule } from './schedule.ts'
import { connectShards } from './shards.ts'
import { listenForChanges } from './changes.ts'
import type { Stack } from './stack.ts'
import type { Tracing } from './tracing.ts'
import { GROUP_LEASE_MS } from './group-starter.ts'
import { createLaunchTask } from './tasks.ts'
import { describeCopy } from './shared-configuration.ts'

const DRAIN_MS = 2000
const PROBE_TIMEOUT_MS = 2000

interface Others {
  /** Of the same process, if it has one. */
  readonly dispatcher?: Dispatcher | undefined
  /** Holds the time of scheduled messages. */
  readonly schedule: Schedule
  readonly crowding: Crowding
  readonly metrics: Metrics
  readonly tracing: Tracing | undefined
}

/** @returns the API's URL */
export async function startApiServer(parts: Parts, others: Others, stack: Stack): Promise<string> {
  const { config } = parts
  const own = connectApi(parts, others, stack)
  const shards = await connectShards(
    parts,
    own,
    (shard, inner) => {
      const schedule = createSchedule(shard, { sweep: false })
      inner.push(() => schedule.stop())
      const deps = connectApi(shard, { ...others, dispatcher: undefined, schedule }, inner)
      listenForChanges(shard, {}, inner)
      return deps
    },
    stack,
  )
  const server = createApiServer(createApi(frontOf(own, shards, others)))
  if (config.metricsPort !== undefined) others.metrics.requests(server)
  server.listen({ port: config.port, host: config.host, backlog: LIMITS.connectionsToAcceptMax })
  await once(server, 'listening')
  stack.push(() => closeServer(server))
  if (config.previousEncryptionKeys.length > 0) stack.push(startRenewal(parts))
  const { port } = server.address() as AddressInfo
  return `http://${config.host === '0.0.0.0' ? '127.0.0.1' : config.host}:${port}`
}

/** What requests are served with: this process's own database, and the others where there are several. */
function frontOf(own: ApiDependencies, shards: ApiShards | undefined, { metrics, tracing }: Others): ApiDependencies {
  const intake = shards === undefined ? own.intake : createShardedIntake(own.intake, shards)
  const measured = metrics.accepting(tracing?.publishing(intake) ?? intake)
  if (shards === undefined) return { ...own, intake: measured }
  return { ...own, intake: measured, shards, configCache: forgettingIn(own.configCache, shards) }
}

/** The same cache; what this process has changed is forgotten in those of the other shards too. */
function forgettingIn(own: ConfigCache, shards: ApiShards): ConfigCache {
  return {
    ...own,
    forget(appId) {
      own.forget(appId)
      for (const { configCache } of shards.reached()) configCache.forget(appId)
    },
  }
}

/** What the API does with one database. What is accepted is committed before the stack goes on. */
function connectApi(parts: Parts, others: Others, stack: Stack): ApiDependencies {
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
    gapMs: () => writeGapMs(parts.utilisation(), COMMIT_GAP_MAX_MS),
    weights: parts.config.priorityWeights,
  })
  stack.push(() => intake.drained())
  return {
    ...parts,
    history,
    intake: replicas === undefined ? intake : notingWrites(intake, replicas),
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
  }
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
