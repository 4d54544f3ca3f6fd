import { readdirSync, readFileSync } from 'node:fs'
import proto from '@temporalio/proto'
import { Worker } from '@temporalio/worker'
import pino from 'pino'
import { bundleWorkflows, installRuntime } from '../../workers/temporal.ts'

const { History } = proto.temporal.api.history.v1

/** A history as it is stored: JSON of the protobuf message, payloads in base64. */
export interface StoredHistory {
  readonly name: string
  readonly workflowId: string
  readonly history: object
}

export const HISTORIES = new URL('./histories/', import.meta.url)

export function storedHistories(): StoredHistory[] {
  const files = readdirSync(HISTORIES)
    .filter((file) => file.endsWith('.json'))
    .sort()
  return files.map((file) => ({
    name: file,
    ...(JSON.parse(readFileSync(new URL(file, HISTORIES), 'utf8')) as Omit<StoredHistory, 'name'>),
  }))
}

/** As JSON, without the names of the machine and the processes that it was recorded on. */
export function toStored(name: string, workflowId: string, history: proto.temporal.api.history.v1.IHistory): StoredHistory {
  const withoutNames = (key: string, value: unknown) => (key === 'identity' ? 'recorder' : value)
  const plain = History.toObject(History.fromObject(history), { longs: String, enums: String, bytes: String })
  return { name, workflowId, history: JSON.parse(JSON.stringify(plain), withoutNames) as object }
}

/** Runs histories against the workflows as they are now; gives what did not fit, one line each. */
export async function replayAll(stored: readonly StoredHistory[], { versioned = false } = {}): Promise<string[]> {
  installRuntime({ log: pino({ level: 'silent' }) })
  const problems: string[] = []
  const histories = stored.map(({ workflowId, history }) => ({ workflowId, history: History.fromObject(history) }))
  const results = Worker.runReplayHistories({ workflowBundle: await bundleWorkflows({ versioned }) }, histories)
  for await (const { workflowId, error } of results) if (error !== undefined) problems.push(`${workflowId}: ${error.message}`)
  return problems
}
