import { Client, Connection } from '@temporalio/client'
import type { Config } from '../config/index.ts'
import type { AutoscaleView } from '../domain/autoscale.ts'
import { autoscaleWorkflowId } from '../domain/names.ts'
import type { ScalingDecision } from '../domain/scaling.ts'
import { createPool } from '../storage/pool.ts'
import { readDecisions } from '../storage/scaling.ts'
import { CommandFailure, reasonOf } from './failure.ts'

/** What the commands ask of an autoscaler that runs. */
export interface AutoscaleClient {
  /** @throws {CommandFailure} `not_running`, as the others */
  state(): Promise<AutoscaleView>
  signal(name: 'pause' | 'resume' | 'clear' | 'override', input?: object): Promise<void>
  /** The newest first: from Postgres where the environment names it, else what the workflow remembers. */
  decisions(): Promise<readonly ScalingDecision[]>
  close(): Promise<void>
}

export const DECISIONS_SHOWN = 50
const ANSWER_WITHIN_MS = 10_000

/** @throws {CommandFailure} `not_running` where Temporal is not there */
export async function openAutoscale(config: Config, pool: string): Promise<AutoscaleClient> {
  const address = config.temporalAddress ?? `127.0.0.1:${config.temporalPort}`
  const workflowId = autoscaleWorkflowId(pool)
  const failed = (cause: unknown) =>
    new CommandFailure(
      'not_running',
      `no answer from ${workflowId} on ${address} (${reasonOf(cause)}): is npm run autoscale -- run running?`,
      { cause },
    )
  const ask = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (error) {
      throw failed(error)
    }
  }
  const connection = await ask(() => Connection.connect({ address, connectTimeout: ANSWER_WITHIN_MS, ...config.temporalAccess }))
  const client = new Client({ connection, namespace: config.temporalNamespace })
  const handle = client.workflow.getHandle(workflowId)
  const within = <T>(work: () => Promise<T>) => ask(() => client.withDeadline(Date.now() + ANSWER_WITHIN_MS, work))
  const state = () => within(() => handle.query<AutoscaleView>('state'))
  return {
    state,
    signal: (name, input) => within(() => (input === undefined ? handle.signal(name) : handle.signal(name, input))),
    async decisions() {
      if (config.databaseUrl === undefined) return (await state()).decisions
      const database = createPool(config.databaseUrl, 1)
      return readDecisions(database, pool, DECISIONS_SHOWN).finally(() => database.end())
    },
    close: () => connection.close(),
  }
}

const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000 }

/** @returns milliseconds of texts like 30s, 10m, 2h. @throws {CommandFailure} `usage` */
export function parseFor(text: string): number {
  const [, count, unit] = /^(\d{1,6})([smh])$/.exec(text) ?? []
  if (count === undefined || unit === undefined) throw new CommandFailure('usage', `--for ${text}: must be a time such as 30s, 10m or 2h`)
  return Number(count) * UNIT_MS[unit]!
}
