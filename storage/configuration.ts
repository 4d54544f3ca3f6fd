import type { PoolClient } from 'pg'
import { ConfigurationUnavailableError } from '../domain/errors.ts'
import { insertAuditEntry, type NewAuditEntry } from './audit-log.ts'
import { notifyConfigChange, notifyOperationalChange } from './config-changes.ts'
import { completeCopy, type Completed } from './config-completing.ts'
import type { ConfigCopy } from './config-copy.ts'
import { doDueEffects, doEffect, sendEffect, type ConfigEffect, type Effected, type FollowUps, type OnFailure } from './config-effects.ts'
import type { ConfigLeader } from './config-leader.ts'
import { disableIn, wantDisabled, writeWanted, type Disabling } from './endpoint-disabling.ts'
import type { Page, PageOf } from './page.ts'
import { asking, inTransaction, queryableOf, type Pool, type Queryable } from './pool.ts'
import { withResidents } from './resident-configuration.ts'

/** A change of configuration that is being made, in one transaction of the database that configuration is written to. */
export interface ConfigChange {
  readonly client: PoolClient
  /** Every process hears that this application, or one of its endpoints, has changed, when it can read it. */
  changed(appId: string): Promise<void>
  /** The same of operational endpoints. */
  operationalChanged(): Promise<void>
  audit(entry: NewAuditEntry): Promise<void>
  /**
   * Does what the change leads to in message data: in this transaction or, where configuration is shared, in each region.
   * @returns false where there was nothing to do; where regions do it, true
   */
  effect(effect: ConfigEffect): Promise<boolean>
}

/** What came of a change, and what is left to do when it is committed. */
export interface ConfigChanged<T> extends FollowUps {
  readonly result: T
}

/** Where some of the configuration is read and written. */
export interface ConfigurationPlace {
  /** Whether regions share it: then its tables are a copy here, and nothing but `change` changes them. */
  readonly shared: boolean
  /**
   * What the API answers from: this database, or the leader where the copy is older than a second.
   * Its `query` throws {ConfigurationUnavailableError} where that cannot be reached.
   */
  readonly reads: Queryable
  /**
   * Makes a change. Where configuration is shared this resolves when a quorum has it, and this region's copy too unless that
   * lags: then reads go to the leader.
   * @throws {ConfigurationUnavailableError} nothing was changed
   * @throws {ConfigurationUnconfirmedError} it is not known whether it was
   */
  change<T>(work: (change: ConfigChange) => Promise<T>): Promise<ConfigChanged<T>>
  /**
   * Changes message data, and tells the audit log of it where that is elsewhere: both or, should this process die between
   * them, the audit log alone.
   */
  changeHere<T>(work: (change: ConfigChange) => Promise<T>): Promise<ConfigChanged<T>>
}

/**
 * Reads a page of a list.
 * @param zone what belongs to applications with this residency is enough; more does no harm
 */
export type ReadPage<T> = (db: Queryable, zone?: string) => Promise<PageOf<T>>

/**
 * Where configuration is read and written: the service's own database, or a cluster that regions share. In a region that has a
 * zone and shares configuration there are two places: that of its own residents is the region's database.
 */
export interface Configuration extends ConfigurationPlace {
  /** Where applications with this residency are configured. @param residency null: none */
  ofResidency(residency: string | null): Configuration
  /** Where the organisation's application of this id or uid is configured: it is looked up when that is first needed. */
  of(orgId: string, idOrUid: string): Configuration
  /** Whether the uid is one of an application that is configured at another place than those with this residency. */
  hasNamesake(orgId: string, uid: string, residency: string | null): Promise<boolean>
  /** A page of a list of what has ids, from all places. @throws as `reads` does */
  list<T extends { readonly id: string }>(page: Page, read: ReadPage<T>): Promise<PageOf<T>>
  /** All places; of one that has residents alone their zone. */
  readonly places: readonly { readonly place: ConfigurationPlace; readonly zone: string | null }[]
  /** Disables an endpoint; where configuration is shared soon after this resolves, so that deliveries wait for no other region. */
  disable(disabling: Disabling): Promise<void>
}

interface Making {
  readonly change: ConfigChange
  readonly effected: Effected[]
}

function followUpsOf(effected: readonly Effected[]): FollowUps {
  return { wakes: effected.flatMap(({ wakes }) => wakes), tasks: effected.flatMap(({ tasks }) => tasks) }
}

function makeHere(client: PoolClient): Making {
  const effected: Effected[] = []
  const change: ConfigChange = {
    client,
    changed: (appId) => notifyConfigChange(client, appId),
    operationalChanged: () => notifyOperationalChange(client),
    audit: async (entry) => void (await insertAuditEntry(client, entry)),
    async effect(effect) {
      const one = await doEffect(client, effect)
      effected.push(one)
      return one.done
    },
  }
  return { change, effected }
}

/** Configuration in the service's own database: a change and all that it leads to are one transaction. */
export function createOwnConfiguration(pool: Pool): Configuration {
  const change = async <T>(work: (change: ConfigChange) => Promise<T>): Promise<ConfigChanged<T>> => {
    const effected: Effected[] = []
    const result = await inTransaction(pool, (client) => {
      const making = makeHere(client)
      return work(making.change).finally(() => effected.push(...making.effected))
    })
    return { result, ...followUpsOf(effected) }
  }
  return atOnePlace({
    shared: false,
    reads: pool,
    change,
    changeHere: change,
    disable: async (disabling: Disabling) => void (await change((one) => disableIn(one, disabling))),
  })
}

function atOnePlace<Place extends ConfigurationPlace & Pick<Configuration, 'disable'>>(place: Place): Place & Configuration {
  const configuration: Place & Configuration = {
    ...place,
    ofResidency: () => configuration,
    of: () => configuration,
    hasNamesake: () => Promise.resolve(false),
    list: (_page, read) => read(place.reads),
    places: [{ place, zone: null }],
  }
  return configuration
}

export interface SharedConfigurationDependencies {
  /** This region's database. */
  readonly pool: Pool
  readonly leader: ConfigLeader
  readonly copy: ConfigCopy
  /** Others that callers may be served from next. */
  readonly copies?: ReadonlySet<ConfigCopy> | undefined
  readonly region: string
  /** Of the region: applications with this residency are configured in its database. Null: there are none. */
  readonly zone: string | null
  readonly onFailure: OnFailure
}

export interface SharedConfiguration extends Configuration {
  /** Does what changes have led to here. */
  doDue(): Promise<FollowUps>
  /** Writes which endpoints are to be disabled. @throws as `change` does */
  writeDisablings(): Promise<void>
  /** What `completeCopy` does of this region's copy. */
  complete(): Promise<Completed | undefined>
}

/** Configuration that regions share. */
export function createSharedConfiguration(deps: SharedConfigurationDependencies): SharedConfiguration {
  const { pool, zone, copy } = deps
  const shared = atOnePlace(createSharedPlace(deps))
  return zone === null ? shared : withResidents(shared, createOwnConfiguration(pool), { pool, zone, copy })
}

type SharedPlace = Omit<SharedConfiguration, Exclude<keyof Configuration, keyof ConfigurationPlace | 'disable'>>

function createSharedPlace({ pool, leader, copy, copies, region, zone, onFailure }: SharedConfigurationDependencies): SharedPlace {
  const doDue = () => doDueEffects(pool, region, onFailure)

  const change = async <T>(work: (change: ConfigChange) => Promise<T>): Promise<ConfigChanged<T>> => {
    let lastEntry: string | undefined
    const result = await leader.transaction((client) =>
      work({
        client,
        // Triggers on the copies tell of it, in each region when its copy has the change.
        changed: () => Promise.resolve(),
        operationalChanged: () => Promise.resolve(),
        audit: async (entry) => {
          lastEntry = await insertAuditEntry(client, entry)
        },
        async effect(effect) {
          await sendEffect(client, region, effect)
          return true
        },
      }),
    )
    // What is written is written: what fails here is done by whoever follows the changes.
    const entry = lastEntry
    if (entry !== undefined) await Promise.allSettled([...(copies ?? [])].map((one) => one.waitFor(entry)))
    const followUps = entry === undefined ? undefined : await followUp(copy, entry, doDue).catch(() => undefined)
    return { result, wakes: followUps?.wakes ?? [], tasks: followUps?.tasks ?? [] }
  }

  return {
    shared: true,
    reads: readsOf(pool, leader, copy),
    change,
    async changeHere(work) {
      const effected: Effected[] = []
      const result = await inTransaction(pool, async (client) => {
        const entries: NewAuditEntry[] = []
        const making = makeHere(client)
        const done = await work({
          ...making.change,
          audit: (entry) => Promise.resolve(void entries.push(entry)),
        })
        effected.push(...making.effected)
        if (entries.length > 0) {
          await leader.transaction(async (elsewhere) => {
            for (const entry of entries) await insertAuditEntry(elsewhere, entry)
          })
        }
        return done
      })
      return { result, ...followUpsOf(effected) }
    },
    disable: (disabling) => wantDisabled(pool, disabling),
    doDue,
    complete: () => completeCopy(pool, { leader, region, zone }),
    writeDisablings: () =>
      writeWanted(pool, async (disabling, wantedAt) => void (await change((one) => disableIn(one, disabling, wantedAt)))),
  }
}

async function followUp(copy: ConfigCopy, entryId: string, doDue: () => Promise<FollowUps>): Promise<FollowUps | undefined> {
  return (await copy.waitFor(entryId)) ? doDue() : undefined
}

function readsOf(pool: Pool, leader: ConfigLeader, copy: ConfigCopy): Queryable {
  return queryableOf(async (...args) => {
    if (copy.isFresh()) return asking(pool)(...args)
    try {
      return await asking(leader)(...args)
    } catch (cause) {
      if (!(cause instanceof ConfigurationUnavailableError)) throw cause
      throw new ConfigurationUnavailableError('This copy of the configuration may be out of date, and its origin cannot be reached', {
        cause,
      })
    }
  })
}
