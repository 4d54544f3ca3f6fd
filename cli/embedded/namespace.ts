import { setTimeout as delay } from 'node:timers/promises'
import type { Connection } from '@temporalio/client'
import { msNumberToTs } from '@temporalio/common/lib/time.js'
import proto from '@temporalio/proto'
import type { TemporalAccess } from '../../config/temporal.ts'
import { SEARCH_ATTRIBUTES } from '../../domain/names.ts'
import { CommandFailure, reasonOf } from '../failure.ts'
import { connectTo } from '../temporal-client.ts'

/** How long a namespace keeps finished workflows. */
export const RETENTION_S = 7 * 86_400
// Processes are added where everything is busy already.
const CALL_TIMEOUT_MS = 20_000
const CACHE_RETRY_MS = 50
const CACHE_RETRIES = 150
/** A call that has this is answered by the cluster that it reaches, not by the one that is active. */
export const NOT_FORWARDED = { 'xdc-redirection': 'false' }
const GRPC_INVALID_ARGUMENT = 3
const GRPC_NOT_FOUND = 5
const GRPC_ALREADY_EXISTS = 6

const hasCode = (error: unknown, code: number) => (error as { code?: unknown }).code === code

export interface PrepareOptions {
  /** Absent: the server takes everybody, without TLS. */
  readonly access?: TemporalAccess
  /** Whether the retention of a namespace that exists is changed. */
  readonly setRetention?: boolean
}

/**
 * Makes sure that the namespace is there, with our search attributes. A namespace that it creates keeps finished
 * workflows for 7 days.
 * @throws {CommandFailure} `temporal_failed`
 */
export async function prepareNamespace(address: string, namespace: string, options: PrepareOptions = {}): Promise<void> {
  const connection = await connectTo(address, options.access)
  try {
    await connection.withDeadline(Date.now() + CALL_TIMEOUT_MS, async () => {
      await ensureNamespace(connection, namespace, options.setRetention === true)
      await ensureSearchAttributes(connection, namespace)
    })
  } catch (cause) {
    throw new CommandFailure('temporal_failed', `Temporal at ${address} could not prepare the namespace ${namespace}: ${reasonOf(cause)}`, {
      cause,
    })
  } finally {
    await connection.close()
  }
}

async function ensureNamespace({ workflowService }: Connection, namespace: string, setRetention: boolean): Promise<void> {
  const workflowExecutionRetentionTtl = msNumberToTs(RETENTION_S * 1000)
  try {
    const { config } = await workflowService.describeNamespace({ namespace })
    const current = Number(config?.workflowExecutionRetentionTtl?.seconds ?? 0)
    if (setRetention && current !== RETENTION_S)
      await workflowService.updateNamespace({ namespace, config: { workflowExecutionRetentionTtl } })
  } catch (error) {
    if (!hasCode(error, GRPC_NOT_FOUND)) throw error
    await workflowService
      .registerNamespace({ namespace, workflowExecutionRetentionPeriod: workflowExecutionRetentionTtl })
      .catch((reason: unknown) => {
        if (!hasCode(reason, GRPC_ALREADY_EXISTS)) throw reason
      })
  }
}

/** The server's cache of namespaces knows a new one only after a moment. */
async function listSearchAttributes({ operatorService }: Connection, namespace: string) {
  for (let attempt = 1; ; attempt++) {
    try {
      return await operatorService.listSearchAttributes({ namespace })
    } catch (error) {
      if (!hasCode(error, GRPC_NOT_FOUND) || attempt === CACHE_RETRIES) throw error
      await delay(CACHE_RETRY_MS)
    }
  }
}

/** Adds what the namespace has not of the search attributes that workflows are started with; a start has them after it. */
export async function ensureSearchAttributes(connection: Connection, namespace: string): Promise<void> {
  const { operatorService } = connection
  const missing = await missingSearchAttributes(connection, namespace)
  if (missing.length > 0 && !(await isActiveElsewhere(connection, namespace))) {
    const type = proto.temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST
    const searchAttributes = Object.fromEntries(missing.map((name) => [name, type]))
    await operatorService.addSearchAttributes({ namespace, searchAttributes }).catch((reason: unknown) => {
      if (!hasCode(reason, GRPC_ALREADY_EXISTS)) throw reason
    })
  }
  for (let attempt = 1; !(await takesSearchAttributes(connection, namespace)); attempt++) {
    if (attempt === CACHE_RETRIES) throw new Error(`the search attributes of ${namespace} have not come`)
    await delay(CACHE_RETRY_MS)
  }
}

/**
 * Whether starts with our search attributes are taken. A server lists them at once; what it checks starts and queries
 * with is a cache that has them a moment later.
 */
export async function takesSearchAttributes(connection: Connection, namespace: string): Promise<boolean> {
  const query = Object.values(SEARCH_ATTRIBUTES)
    .map((name) => `${name} = 'none'`)
    .join(' OR ')
  try {
    await connection.withMetadata(NOT_FORWARDED, () => connection.workflowService.countWorkflowExecutions({ namespace, query }))
    return true
  } catch (error) {
    if (hasCode(error, GRPC_INVALID_ARGUMENT) || hasCode(error, GRPC_NOT_FOUND)) return false
    throw error
  }
}

async function missingSearchAttributes(connection: Connection, namespace: string): Promise<string[]> {
  const { customAttributes } = await listSearchAttributes(connection, namespace)
  return Object.values(SEARCH_ATTRIBUTES).filter((name) => customAttributes[name] === undefined)
}

/**
 * A namespace says which column holds which attribute, and histories name columns. Of a namespace that several clusters
 * have the active one says it; two that both do may say different things.
 */
async function isActiveElsewhere({ workflowService }: Connection, namespace: string): Promise<boolean> {
  const { isGlobalNamespace, replicationConfig } = await workflowService.describeNamespace({ namespace })
  return isGlobalNamespace && replicationConfig?.activeClusterName !== (await workflowService.getClusterInfo({})).clusterName
}
