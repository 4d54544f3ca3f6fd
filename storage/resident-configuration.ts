import type { ConfigCopy } from './config-copy.ts'
import type { Configuration, ConfigurationPlace, SharedConfiguration } from './configuration.ts'
import { mergePages } from './page.ts'
import { asking, queryableOf, type Pool, type Queryable } from './pool.ts'

interface Dependencies {
  /** This region's database: a copy of the shared configuration, and that of the region's residents. */
  readonly pool: Pool
  readonly zone: string
  readonly copy: Pick<ConfigCopy, 'isFresh'>
}

/**
 * Shared configuration, but for applications of the region's zone, which are configured in its own database: nothing of them is
 * written to the cluster, or asked of it.
 */
export function withResidents(shared: SharedConfiguration, own: Configuration, { pool, zone, copy }: Dependencies): SharedConfiguration {
  const atCluster = refusingResidents(shared, (appId) => hasResident(pool, appId, zone))
  const hasNamesake: Configuration['hasNamesake'] = (orgId, uid, residency) =>
    findNamesake(pool, { orgId, uid, zone, isResident: residency === zone })
  const ofResidents: Configuration = { ...own, hasNamesake }
  const configuration: SharedConfiguration = {
    ...shared,
    ...atCluster,
    hasNamesake,
    ofResidency: (residency) => (residency === zone ? ofResidents : configuration),
    of(orgId, idOrUid) {
      let found: Promise<Configuration> | undefined
      const place = () => (found ??= findResident(pool, orgId, idOrUid, zone).then((resides) => (resides ? ofResidents : configuration)))
      return {
        ...configuration,
        reads: queryableOf(async (...args) => asking((await place()).reads)(...args)),
        change: async (work) => (await place()).change(work),
        changeHere: async (work) => (await place()).changeHere(work),
        list: async (page, read) => (await place()).list(page, read),
      }
    },
    async list(page, read) {
      if (copy.isFresh()) return read(pool)
      return mergePages([await read(shared.reads), await read(pool, zone)], page)
    },
    places: [
      { place: own, zone },
      { place: atCluster, zone: null },
    ],
    disable: async (disabling) => ((await hasResident(pool, disabling.appId, zone)) ? own : shared).disable(disabling),
  }
  return configuration
}

/** Every change is told to the audit log: one of a resident that has come here by mistake ends there. */
function refusingResidents(place: ConfigurationPlace, resides: (appId: string) => Promise<boolean>): ConfigurationPlace {
  const refuse = async (appId: string | null) => {
    if (appId !== null && (await resides(appId))) throw new Error('an application with a zone is not configured at the cluster')
  }
  const guarded =
    (way: 'change' | 'changeHere'): ConfigurationPlace['change'] =>
    (work) =>
      place[way]((change) =>
        work({
          ...change,
          async audit(entry) {
            await refuse(entry.appId)
            await change.audit(entry)
          },
        }),
      )
  return { shared: place.shared, reads: place.reads, change: guarded('change'), changeHere: guarded('changeHere') }
}

async function hasResident(db: Queryable, appId: string, zone: string): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'resident-is',
    text: 'SELECT FROM application WHERE id = $1 AND residency = $2',
    values: [appId, zone],
  })
  return rowCount !== 0
}

/** Whether the organisation has a resident of this id, be it deleted, or a live one of this uid. */
async function findResident(db: Queryable, orgId: string, idOrUid: string, zone: string): Promise<boolean> {
  const { rowCount } = await db.query({
    name: 'resident-find',
    text: 'SELECT FROM application WHERE org_id = $1 AND (id = $2 OR (uid = $2 AND deleted_at IS NULL)) AND residency = $3 LIMIT 1',
    values: [orgId, idOrUid, zone],
  })
  return rowCount !== 0
}

interface Namesake {
  readonly orgId: string
  readonly uid: string
  readonly zone: string
  readonly isResident: boolean
}

async function findNamesake(db: Queryable, { orgId, uid, zone, isResident }: Namesake): Promise<boolean> {
  const { rowCount } = await db.query(
    `SELECT FROM application
     WHERE org_id = $1 AND uid = $2 AND deleted_at IS NULL AND (residency IS NOT DISTINCT FROM $3) <> $4 LIMIT 1`,
    [orgId, uid, zone, isResident],
  )
  return rowCount !== 0
}
