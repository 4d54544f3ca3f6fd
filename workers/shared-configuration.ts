import { setTimeout as pause } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Config } from '../config/index.ts'
import { LIMITS } from '../domain/limits.ts'
import { keepConfigClock } from '../storage/config-clock.ts'
import { CONFIG_CLOCK_CHANNEL, createConfigCopy, type ConfigCopy } from '../storage/config-copy.ts'
import { CONFIG_EFFECT_CHANNEL } from '../storage/config-effects.ts'
import { createConfigLeader } from '../storage/config-leader.ts'
import {
  createOwnConfiguration,
  createSharedConfiguration,
  type Configuration,
  type SharedConfiguration,
} from '../storage/configuration.ts'
import type { Pool } from '../storage/pool.ts'
import { createMailboxes } from './mailboxes.ts'
import type { Parts } from './parts.ts'
import type { Stack } from './stack.ts'
import { createLaunchTask } from './tasks.ts'

const CATCH_UP_EVERY_MS = 1000
const COMPLETE_AGAIN_MS = 10_000

export interface ConnectedConfiguration {
  readonly configuration: Configuration
  readonly copy: ConfigCopy | undefined
  readonly copies: Set<ConfigCopy>
}

/** Where configuration is read and written: `CONFIG_DATABASE_URLS`, or this service's own database. */
export function connectConfiguration(
  { config, pool, log }: { config: Config; pool: Pool; log: Logger },
  stack: Stack,
): ConnectedConfiguration {
  const copies = new Set<ConfigCopy>()
  if (config.configDatabaseUrls.length === 0) return { configuration: createOwnConfiguration(pool), copy: undefined, copies }
  const leader = createConfigLeader(config.configDatabaseUrls)
  stack.push(() => leader.stop())
  const clock = keepConfigClock({ leader, log })
  stack.push(() => clock.stop())
  const copy = createConfigCopy(pool)
  const onFailure = (id: number, err: unknown) => log.error({ effect: id, err }, 'config-effect.failed')
  const { copyName: region, regions } = config
  const configuration = createSharedConfiguration({ pool, leader, copy, copies, region, zone: regions?.own.zone ?? null, onFailure })
  return { configuration, copy, copies }
}

/** What a process does with changes that arrive in its region. */
export interface ConfigurationFollower {
  readonly channels: Readonly<Record<string, (payload: string) => void>>
  /** Notifications may have been missed. */
  missed(): void
}

const isShared = (configuration: Configuration): configuration is SharedConfiguration => configuration.shared

/** Does what changes lead to, as they arrive. Undefined where regions share no configuration. */
export function followConfiguration(parts: Parts, stack: Stack): ConfigurationFollower | undefined {
  const { configuration, copy, config, log } = parts
  if (copy === undefined || !isShared(configuration)) return undefined
  const mailboxes = createMailboxes({ ...parts, partitions: config.partitions, sweep: false })
  const launch = createLaunchTask(parts)
  const stop = new AbortController()
  let asked = Promise.withResolvers<void>()
  const later = (error: unknown) => log.debug({ err: error }, 'config-effects.later')
  const turn = async () => {
    const { wakes, tasks } = await configuration.doDue()
    for (const endpointId of wakes) mailboxes.wake({ endpointId, wakeAtMs: Date.now() })
    await Promise.all(tasks.map(launch))
    await configuration.writeDisablings()
  }
  const run = async () => {
    while (!stop.signal.aborted) {
      asked = Promise.withResolvers<void>()
      await turn().catch(later)
      await Promise.race([asked.promise, pause(CATCH_UP_EVERY_MS, undefined, { signal: stop.signal }).catch(() => undefined)])
    }
  }
  const running = run()
  const completing = keepComplete(configuration, log)
  stack.push(async () => {
    stop.abort()
    await Promise.all([running, completing.stop()])
    await mailboxes.stop()
  })
  return {
    channels: {
      [CONFIG_CLOCK_CHANNEL]: (clockMs) => copy.heard(Number(clockMs)),
      [CONFIG_EFFECT_CHANNEL]: () => asked.resolve(),
    },
    missed() {
      copy.missed()
      asked.resolve()
      completing.check()
    },
  }
}

/** A database that connections were lost to may have been promoted: its copy is made complete, as soon as the cluster is there. */
function keepComplete(configuration: SharedConfiguration, log: Logger) {
  const stop = new AbortController()
  let asked = Promise.withResolvers<void>()
  const complete = async () => {
    for (let told = false; !stop.signal.aborted; told = true) {
      try {
        const completed = await configuration.complete()
        if (completed !== undefined) log.warn(completed, 'config-copy.completed')
        return
      } catch (error) {
        if (!told) log.warn({ err: error }, 'config-copy.not-completed')
        await pause(COMPLETE_AGAIN_MS, undefined, { signal: stop.signal }).catch(() => undefined)
      }
    }
  }
  const run = async () => {
    for (;;) {
      await asked.promise
      asked = Promise.withResolvers<void>()
      if (stop.signal.aborted) return
      await complete()
    }
  }
  const running = run()
  return {
    check: () => asked.resolve(),
    async stop() {
      stop.abort()
      asked.resolve()
      await running
    },
  }
}

/** For `/readyz`: an old copy keeps a region from nothing but changing its configuration. */
export function describeCopy(copy: ConfigCopy): () => string {
  return () => {
    const ageMs = copy.ageMs()
    const age = Number.isFinite(ageMs) ? `${Math.round(ageMs)} ms` : 'unknown'
    return `age of the copy: ${age}${ageMs > LIMITS.configCopyMaxAgeMs ? ', read where it is written' : ''}`
  }
}
