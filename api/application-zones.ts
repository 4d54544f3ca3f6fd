import type { Logger } from 'pino'
import type { Regions } from '../domain/regions.ts'
import { RegionCallError, type RegionClient } from '../http/region-client.ts'
import {
  claimUntold,
  createUidHash,
  findElsewhere,
  findOtherZones,
  forgetZones,
  listResidents,
  markTold,
  readResident,
  tellOfZone,
  welcomeRegions,
  writeZone,
  type Elsewhere,
  type Untold,
} from '../storage/application-zones.ts'
import { inTransaction, type Pool, type Queryable } from '../storage/pool.ts'
import { LIMITS } from '../domain/limits.ts'
import { APPLICATION_ZONE_PATH, tellingOf } from './internal/application-zone.ts'

/** Which applications are in which zone, as every region knows it; and telling the others of those of this zone. */
export interface ApplicationZones {
  /** The organisation's application of this id or uid where this region may not hold it. */
  elsewhere(orgId: string, idOrUid: string): Promise<Elsewhere | undefined>
  /** Other zones that the organisation has applications in. */
  otherZones(orgId: string): Promise<string[]>
  /** Writes down what the transaction changes of an application. */
  changed(db: Queryable, appId: string, isErased: boolean): Promise<void>
  /**
   * Call it after the commit: tells the other regions, and waits for them a moment, so that what was created can be used in
   * each of them at once. Whoever has not heard is told by `tellAll`. Never rejects.
   */
  tell(appIds: readonly string[]): Promise<void>
  /** Tells what is due. @returns whether there may be more */
  tellAll(): Promise<boolean>
  /** Once after each start: new regions are told of everything; uids whose hash is by a previous secret are hashed anew. */
  begin(): Promise<void>
}

export interface ApplicationZonesDependencies {
  readonly pool: Pool
  readonly regions: Regions
  readonly client: RegionClient
  /** `TIDINGS_JWT_SECRET`, then those before it. */
  readonly secrets: readonly string[]
  readonly log: Logger
}

export function createApplicationZones({ pool, regions, client, secrets, log }: ApplicationZonesDependencies): ApplicationZones {
  const uidHash = createUidHash(secrets)
  const { zone: ownZone } = regions.own
  const others = regions.all.map(({ name }) => name).filter((name) => name !== regions.own.name)
  const hasOtherZones = regions.all.some(({ zone }) => zone !== null && zone !== ownZone)

  const write = async (db: Queryable, appId: string): Promise<void> => {
    const resident = await readResident(db, appId)
    if (resident === undefined) return
    const { orgId, uid, zone } = resident
    await writeZone(db, { id: appId, orgId, uidHash: uid === null ? null : uidHash(orgId, uid)[0], zone })
    await tellOfZone(db, appId, others)
  }
  const tellRegion = async (name: string, untold: readonly Untold[]): Promise<void> => {
    try {
      await client.call(regions.get(name), { path: APPLICATION_ZONE_PATH, body: tellingOf(untold) })
      await markTold(pool, untold)
    } catch (error) {
      const reason = error instanceof RegionCallError ? error.message : 'the database cannot be reached'
      log.warn({ region: name, applications: untold.length, reason }, 'application-zone.untold')
    }
  }
  const tellSome = async (appIds: readonly string[] | null): Promise<number> => {
    const untold = await claimUntold(pool, appIds, LIMITS.applicationZonesTold, LIMITS.applicationZoneTellAgainMs)
    const byRegion = Map.groupBy(untold, ({ region }) => region)
    await Promise.all([...byRegion].filter(([name]) => regions.has(name)).map(([name, some]) => tellRegion(name, some)))
    return untold.length
  }

  return {
    async elsewhere(orgId, idOrUid) {
      if (!hasOtherZones) return undefined
      return findElsewhere(pool, { orgId, name: idOrUid, uidHashes: uidHash(orgId, idOrUid), ownZone })
    },
    async otherZones(orgId) {
      return hasOtherZones ? findOtherZones(pool, orgId, ownZone) : []
    },
    async changed(db, appId, isErased) {
      if (ownZone === null) return
      if (!isErased) return write(db, appId)
      if ((await readResident(db, appId)) === undefined) return
      await forgetZones(db, [appId], ownZone)
      await tellOfZone(db, appId, others)
    },
    async tell(appIds) {
      if (ownZone === null) return
      const telling = tellSome(appIds).catch((error: unknown) => log.warn({ err: error }, 'application-zone.untold'))
      await Promise.race([telling, pauseFor(LIMITS.applicationZoneWaitMs)])
    },
    async tellAll() {
      return ownZone !== null && (await tellSome(null)) === LIMITS.applicationZonesTold
    },
    async begin() {
      if (ownZone === null) return
      await welcomeRegions(pool, ownZone, others)
      if (secrets.length > 1) await hashAnew(pool, uidHash, write)
    },
  }
}

/** @param write as it is told of changes */
async function hashAnew(
  pool: Pool,
  uidHash: ReturnType<typeof createUidHash>,
  write: (db: Queryable, appId: string) => Promise<void>,
): Promise<void> {
  let after = ''
  for (;;) {
    const residents = await listResidents(pool, after, LIMITS.applicationZonesTold)
    for (const { id, orgId, uid, uidHash: told } of residents) {
      if (told?.equals(uidHash(orgId, uid)[0]) !== true) await inTransaction(pool, (client) => write(client, id))
    }
    const last = residents.at(-1)
    if (last === undefined) return
    after = last.id
  }
}

function pauseFor(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms).unref())
}
