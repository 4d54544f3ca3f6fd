import type { HoldBackInput } from '../domain/fan-out.ts'
import { readRetrying } from '../storage/deliveries.ts'
import type { Pool } from '../storage/pool.ts'
import type { Recorder } from '../storage/recorder.ts'
import type { Admission } from './admission.ts'

export interface HoldBackDependencies {
  readonly pool: Pool
  readonly recorder: Recorder
  readonly admission: Pick<Admission, 'look'>
}

export function createHoldBack(deps: HoldBackDependencies) {
  return {
    /**
     * Parks what waits for a retry at endpoints that are not sent to now: when the first retries are due, most of the breakers
     * that the failures open are open. An activity for each endpoint would find out the same at many times the cost.
     * @returns ids of the endpoints all of whose deliveries are parked now
     */
    async holdBack({ groupId, endpoints }: HoldBackInput): Promise<string[]> {
      const held = new Map<string, number>()
      for (const { endpointId } of endpoints) {
        const until = deps.admission.look({ id: endpointId }, 'retry')?.untilMs
        if (until !== undefined) held.set(endpointId, until)
      }
      if (held.size === 0) return []
      const asked = endpoints.filter(({ endpointId }) => held.has(endpointId))
      const waiting = await readRetrying(deps.pool, groupId, asked)
      await Promise.all(
        waiting.map(({ attempts, retried, ...delivery }) => {
          const change = { state: 'parked', attempts, nextAtMs: held.get(delivery.endpointId)!, retried } as const
          return deps.recorder.record({ ...delivery, groupId, change })
        }),
      )
      // What was interrupted has no row, and goes on in the endpoint's activity.
      const rows = (endpointId: string) => waiting.filter((one) => one.endpointId === endpointId).length
      return asked.filter(({ endpointId, messageIds }) => rows(endpointId) === messageIds.length).map(({ endpointId }) => endpointId)
    },
  }
}
