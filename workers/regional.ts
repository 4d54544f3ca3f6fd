import { setTimeout as pause } from 'node:timers/promises'
import { createApplicationZones, type ApplicationZones } from '../api/application-zones.ts'
import type { Regional } from '../api/dependencies.ts'
import { LIMITS } from '../domain/limits.ts'
import { createConnectTime } from '../http/connect-time.ts'
import type { Parts } from './parts.ts'
import type { Stack } from './stack.ts'

const SWEEP_EVERY_MS = 5000

type RegionalParts = Pick<Parts, 'pool' | 'guard' | 'regionClient' | 'log'> & {
  readonly config: Pick<Parts['config'], 'regions' | 'jwtSecret' | 'previousJwtSecrets' | 'egressProxy'>
}

/** What the API has where there are several regions, with the sweep that tells those which have not heard. */
export function startRegional(parts: RegionalParts, stack: Stack): Regional | undefined {
  const { config, pool, guard, regionClient: client, log } = parts
  const { regions } = config
  if (regions === undefined || client === undefined) return undefined
  const secrets = [config.jwtSecret, ...config.previousJwtSecrets]
  const zones = createApplicationZones({ pool, regions, client, secrets, log })
  const sweep = startSweep(zones, log)
  stack.push(() => sweep.stop())
  const measure = createConnectTime({ guard, egressProxy: config.egressProxy, timeoutMs: LIMITS.connectTimeMaxMs })
  return { regions, client, measure, zones }
}

function startSweep(zones: ApplicationZones, log: Parts['log']): { stop(): Promise<void> } {
  const stop = new AbortController()
  let begun = false
  const sweepOnce = async () => {
    if (!begun) await zones.begin()
    begun = true
    while (!stop.signal.aborted && (await zones.tellAll()));
  }
  const sweep = async () => {
    while (!stop.signal.aborted) {
      await sweepOnce().catch((error: unknown) => log.warn({ err: error }, 'application-zone.sweep-failed'))
      await pause(SWEEP_EVERY_MS, undefined, { signal: stop.signal }).catch(() => undefined)
    }
  }
  const sweeping = sweep()
  return {
    async stop() {
      stop.abort()
      await sweeping
    },
  }
}
