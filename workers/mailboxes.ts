import { setTimeout as pause } from 'node:timers/promises'
import type { Client } from '@temporalio/client'
import type { Logger } from 'pino'
import type { MailboxInput } from '../domain/fan-out.ts'
import { FAN_OUT_TASK_QUEUE, mailboxWorkflowId, partitionOf } from '../domain/names.ts'
import { overdueMailboxes } from '../storage/deliveries.ts'
import type { Pool } from '../storage/pool.ts'
import type { MailboxWake } from '../storage/records.ts'

export interface Mailboxes {
  /** Wakes a mailbox, starting its workflow where none runs. A wake that fails is made good by the sweep. */
  wake(wake: MailboxWake): void
  /** The same, until it is done or has failed. */
  wakeNow(wake: MailboxWake): Promise<void>
  stop(): Promise<void>
}

const SWEEP_EVERY_MS = 5000
const OVERDUE_AFTER_MS = 5000
const WAKES_PER_SWEEP = 200
const SIGNAL_DEADLINE_MS = 5000

export function createMailboxes(deps: { client: Client; pool: Pool; partitions: number; log: Logger; sweep: boolean }): Mailboxes {
  const { client, pool, log } = deps
  const stop = new AbortController()

  const signal = (wake: MailboxWake) => {
    const input: MailboxInput = { ...wake, partition: partitionOf(wake.endpointId, deps.partitions) }
    return client.connection.withDeadline(Date.now() + SIGNAL_DEADLINE_MS, () =>
      client.workflow.signalWithStart('mailbox', {
        workflowId: mailboxWorkflowId(wake.endpointId),
        taskQueue: FAN_OUT_TASK_QUEUE,
        args: [input],
        signal: 'wake',
        signalArgs: [{ wakeAtMs: wake.wakeAtMs }],
        staticSummary: `waiting deliveries of ${wake.endpointId}`,
      }),
    )
  }
  const sweep = async () => {
    while (!stop.signal.aborted) {
      await pause(SWEEP_EVERY_MS, undefined, { signal: stop.signal }).catch(() => undefined)
      if (stop.signal.aborted) return
      try {
        for (const wake of await overdueMailboxes(pool, OVERDUE_AFTER_MS, WAKES_PER_SWEEP)) await signal(wake)
      } catch (error) {
        log.warn({ err: error }, 'mailbox-sweep.failed')
      }
    }
  }
  const sweeping = deps.sweep ? sweep() : Promise.resolve()
  const wakeNow = async (wake: MailboxWake) => {
    await signal(wake).catch((error: unknown) => log.warn({ endpointId: wake.endpointId, err: error }, 'mailbox.not-woken'))
  }
  return {
    wake: (wake) => void wakeNow(wake),
    wakeNow,
    async stop() {
      stop.abort()
      await sweeping
    },
  }
}
