import { setTimeout as delay } from 'node:timers/promises'
import type { Bench } from './driver.ts'
import { nowMs } from './clock.ts'
import { arrivalMs, arrivalsOf, total, type Ledger } from './ledger.ts'
import { sampleCpu, type CpuSample, type ProcessGroup } from './process-groups.ts'
import type { Quiet, Recovery } from './result.ts'
import type { Scenario } from './scenarios.ts'
import { rounded } from './statistics.ts'

const SECOND_MS = 1000
/** Endpoints that are down are not asked any more when no request has come for so long. */
const NOT_ASKED_MS = 10_000

/** @param self the group that is not part of the service */
export function cpuBetween(before: CpuSample, after: CpuSample, self?: string) {
  const spent = Object.entries(after.groups).map(([name, seconds]) => [name, rounded(seconds - (before.groups[name] ?? 0), 2)] as const)
  const sum = spent.reduce((seconds, [, used]) => seconds + used, 0)
  const ours = spent.find(([name]) => name === self)?.[1] ?? 0
  return {
    cpu_s: Object.fromEntries(spent),
    cpu_s_total: rounded(sum - ours, 2),
    other_cpu_s: rounded(Math.max(0, after.machine - before.machine - sum), 2),
  }
}

/** The servers' CPU time while nothing is published. @returns how to measure it again; undefined where it is not asked for */
export async function observeQuiet(groups: readonly ProcessGroup[], { quietS: seconds }: Scenario, ledger: Ledger) {
  if (seconds === undefined) return undefined
  const measure = async () => {
    const start = sampleCpu(groups)
    await delay(seconds * SECOND_MS)
    return cpuBetween(start, sampleCpu(groups)).cpu_s
  }
  const before = await measure()
  return {
    async again(): Promise<Quiet> {
      const requests = total(ledger, 'requests')
      const after = await measure()
      return { seconds, before, after, requests: total(ledger, 'requests') - requests }
    },
  }
}

/** Lets endpoints that are down recover once nobody asks them any more. @returns what came then; undefined where none is down */
export async function observeRecovery({ sink, groups }: Bench, { behaviours }: Scenario, ledger: Ledger) {
  if (!behaviours.includes('down')) return undefined
  for (let refused = -1; refused !== total(ledger, 'refused');) {
    refused = total(ledger, 'refused')
    await delay(NOT_ASKED_MS)
  }
  await sink.recover()
  const recoveredMs = nowMs()
  const cpuMax: Record<string, number> = {}
  let before = sampleCpu(groups)
  let beforeMs = nowMs()
  const timer = setInterval(() => {
    const after = sampleCpu(groups)
    const seconds = (nowMs() - beforeMs) / SECOND_MS
    for (const [name, used] of Object.entries(cpuBetween(before, after).cpu_s)) {
      cpuMax[name] = Math.max(cpuMax[name] ?? 0, rounded(used / seconds, 2))
    }
    before = after
    beforeMs = nowMs()
  }, SECOND_MS)
  return {
    end(): Recovery {
      clearInterval(timer)
      return { refused: total(ledger, 'refused'), ...describeArrivals(ledger, recoveredMs), cpu_max: cpuMax }
    },
  }
}

function describeArrivals(ledger: Ledger, recoveredMs: number): Omit<Recovery, 'refused' | 'cpu_max'> {
  const timesMs = Array.from({ length: ledger.endpoints }, (_, endpoint) =>
    Array.from({ length: ledger.messages }, (_, message) => message)
      .filter((message) => arrivalsOf(ledger, endpoint, message) > 0)
      .map((message) => arrivalMs(ledger, endpoint, message, 0)),
  )
  const all = Float64Array.from(timesMs.flat()).sort()
  const firstMs = all[0] ?? recoveredMs
  const endpointMax = timesMs.map((some) => Math.max(0, ...perSecond(some, firstMs)))
  return {
    first_s: rounded((firstMs - recoveredMs) / SECOND_MS, 1),
    last_s: rounded(((all.at(-1) ?? recoveredMs) - recoveredMs) / SECOND_MS, 1),
    per_s: perSecond(all, firstMs),
    endpoint_per_s_max: Math.max(0, ...endpointMax),
  }
}

function perSecond(timesMs: Iterable<number>, firstMs: number): number[] {
  const counts: number[] = []
  for (const timeMs of timesMs) {
    const second = Math.floor((timeMs - firstMs) / SECOND_MS)
    while (counts.length <= second) counts.push(0)
    counts[second]!++
  }
  return counts
}
