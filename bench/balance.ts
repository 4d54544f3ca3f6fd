/**
 * Ways to spread tasks over workers. `npm run bench:balance` prints a table.
 *
 * Four workers, three with 20 slots and one with 5, get 600 tasks at once: 540 of 200 ms and 60 of 2 s, mixed at random, the
 * same mix for each way. Tasks are activities of a real Temporal server that wait, as a request for its answer does.
 *
 * - round robin: each worker has a task queue of its own, and gets every fourth task
 * - weighted: the same, by the number of slots
 * - pull: one task queue, from which each worker takes when it has a free slot
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Client } from '@temporalio/client'
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker'
import { findTemporal } from '../cli/embedded/temporal-program.ts'
import { startTemporal } from '../cli/embedded/temporal.ts'
import { createProgress } from '../cli/progress.ts'
import { readConfig } from '../config/index.ts'
import type { balance, BalanceActivities } from './balance-workflow.ts'
import { distributionOf, rounded, spreadOf } from './statistics.ts'

const NAMESPACE = 'tidings-balance'
const SLOTS = [20, 20, 20, 5]
const QUICK = { count: 540, ms: 200 }
const SLOW = { count: 60, ms: 2000 }
const REPETITIONS = 3
const WORKFLOWS = 'balance'
const PULL = 'pull'
const ownQueue = (worker: number) => `own-${worker}`

const activities: BalanceActivities = {
  async work(durationMs) {
    await delay(durationMs)
    return Date.now()
  },
}

const WAYS: Readonly<Record<string, readonly string[]>> = {
  'round robin': SLOTS.map((_, worker) => ownQueue(worker)),
  weighted: SLOTS.flatMap((slots, worker) => Array<string>(slots / 5).fill(ownQueue(worker))),
  pull: [PULL],
}

/** Takes turns between workers, so that their turns are not in a row. */
function interleaved(queues: readonly string[]): string[] {
  const places = queues.map((queue, i) => {
    const same = queues.filter((other) => other === queue).length
    const before = queues.slice(0, i).filter((other) => other === queue).length
    return { queue, at: (before + 0.5) / same }
  })
  return places.toSorted((a, b) => a.at - b.at).map(({ queue }) => queue)
}

function mix(): number[] {
  const all = [...Array<number>(QUICK.count).fill(QUICK.ms), ...Array<number>(SLOW.count).fill(SLOW.ms)]
  return all
    .map((ms) => ({ ms, at: Math.random() }))
    .toSorted((a, b) => a.at - b.at)
    .map(({ ms }) => ms)
}

async function measure(client: Client): Promise<void> {
  const results = new Map(Object.keys(WAYS).map((way) => [way, { seconds: [] as number[], p50: [] as number[] }]))
  for (let rep = 0; rep <= REPETITIONS; rep++) {
    const durationsMs = mix()
    for (const [way, queues] of Object.entries(WAYS)) {
      const doneMs = await client.workflow.execute<typeof balance>('balance', {
        ...{ taskQueue: WORKFLOWS, workflowId: `${way}-${rep}` },
        args: [{ queues: interleaved(queues), durationsMs }],
      })
      // The first warms up.
      if (rep === 0) continue
      const { p50_ms: p50, max_ms: max } = distributionOf(doneMs)
      results.get(way)!.seconds.push(rounded(max / 1000, 2))
      results.get(way)!.p50.push(rounded(p50 / 1000, 2))
    }
  }
  const slots = SLOTS.reduce((sum, one) => sum + one, 0)
  const leastS = (QUICK.count * QUICK.ms + SLOW.count * SLOW.ms) / slots / 1000
  process.stdout.write(`| way | seconds until half are done | seconds until all are done |\n| --- | --- | --- |\n`)
  for (const [way, { seconds, p50 }] of results) process.stdout.write(`| ${way} | ${spreadOf(p50)} | ${spreadOf(seconds)} |\n`)
  process.stdout.write(`all slots busy all the time: ${leastS.toFixed(2)} s\n`)
}

/** Each worker has a connection of its own, as in a process of its own. */
async function createWorkers(address: string, connection: NativeConnection): Promise<{ workers: Worker[]; close: () => Promise<void> }> {
  const workflowBundle = await bundleWorkflowCode({
    workflowsPath: fileURLToPath(new URL('./balance-workflow.ts', import.meta.url)),
    logger: new DefaultLogger('ERROR'),
  })
  const workers = [await Worker.create({ connection, namespace: NAMESPACE, taskQueue: WORKFLOWS, workflowBundle })]
  const connections: NativeConnection[] = []
  for (const [worker, slots] of SLOTS.entries()) {
    const own = await NativeConnection.connect({ address })
    connections.push(own)
    const common = { connection: own, namespace: NAMESPACE, activities, maxConcurrentActivityTaskExecutions: slots }
    for (const taskQueue of [PULL, ownQueue(worker)]) workers.push(await Worker.create({ ...common, taskQueue }))
  }
  return { workers, close: async () => void (await Promise.all(connections.map((one) => one.close()))) }
}

async function main(): Promise<void> {
  Runtime.install({ shutdownSignals: [], logger: new DefaultLogger('ERROR') })
  const dataDir = mkdtempSync(join(tmpdir(), 'tidings-bench-'))
  const program = await findTemporal({ cacheDir: readConfig().cacheDir, dataDir }, createProgress())
  const temporal = await startTemporal({ program, dataDir, namespace: NAMESPACE, port: 0, uiPort: 0 })
  try {
    const connection = await NativeConnection.connect({ address: temporal.address })
    const { workers, close } = await createWorkers(temporal.address, connection)
    const running = workers.map((worker) => worker.run())
    await measure(new Client({ connection, namespace: NAMESPACE }))
    for (const worker of workers) worker.shutdown()
    await Promise.all(running)
    await close()
    await connection.close()
  } finally {
    await temporal.stop()
    rmSync(dataDir, { recursive: true, force: true })
  }
}

await main()
