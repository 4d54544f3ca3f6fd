import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { createLedger, type Ledger } from './ledger.ts'
import type { Scenario } from './scenarios.ts'
import type { SinkAnswer, SinkCommand } from './sink-worker.ts'

/** Receives the webhooks, in a thread of its own, so that what it is busy with does not delay the publishers. */
export interface Sink {
  /** Counts the arrivals of one run from now on. */
  begin(run: string, scenario: Scenario): Promise<{ readonly ledger: Ledger; readonly urls: readonly string[] }>
  /** Endpoints that are down answer 200 from now on. */
  recover(): Promise<void>
  /** Forgets the run, and closes the connections that were never answered. */
  end(): Promise<void>
  stop(): Promise<void>
}

export async function startSink(): Promise<Sink> {
  const worker = new Worker(new URL('./sink-worker.ts', import.meta.url))
  const ask = async (command: SinkCommand): Promise<SinkAnswer> => {
    worker.postMessage(command)
    const [answer] = (await once(worker, 'message')) as [SinkAnswer]
    return answer
  }
  await ask({ kind: 'listen', ports: 1 })
  return {
    async begin(run, { behaviours, messages, retry, hosts = 1, answerAfterMs = 0 }) {
      const failures = retry?.scheduleS.length ?? 0
      const ledger = createLedger(behaviours.length, messages, failures + 1)
      const { ports } = await ask({ kind: 'listen', ports: hosts })
      await ask({ kind: 'begin', run, behaviours, messages, failures, answerAfterMs, kept: ledger.kept, buffers: ledger.buffers })
      return { ledger, urls: behaviours.map((_, i) => `http://127.0.0.1:${ports[i % hosts]!}/r/${run}/e/${i}`) }
    },
    recover: async () => void (await ask({ kind: 'recover' })),
    end: async () => void (await ask({ kind: 'end' })),
    stop: async () => void (await worker.terminate()),
  }
}
