import { protectCopy } from './config-residents.ts'
import { slotOf, SUBSCRIPTION, untilWorkerHasStopped, withSubscriptionLock } from './config-subscription.ts'
import { inTransaction, type Pool, type Queryable } from './pool.ts'

/** No such slot is ever made: a subscription that has it applies nothing, enabled or not, whoever enables it. */
const NO_SLOT = 'tidings_waits_for_its_audit_log'

interface Standing {
  /** Whether the audit log is partitioned. */
  readonly byDays: boolean
  readonly slot: string | null
  /** Of the table that has its name now; null: the subscription does not know it. */
  readonly state: string | null
}

async function look(db: Queryable): Promise<Standing | undefined> {
  const { rows } = await db.query<Standing>(
    `SELECT c.relkind = 'p' AS "byDays", s.subslotname AS slot, r.srsubstate AS state
     FROM pg_subscription s JOIN pg_class c ON c.oid = 'audit_log'::regclass
     LEFT JOIN pg_subscription_rel r ON r.srsubid = s.oid AND r.srrelid = c.oid
     WHERE s.subname = $1 AND s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())`,
    [SUBSCRIPTION],
  )
  return rows[0]
}

/**
 * Partitions the audit log of a copy that an earlier version has made, as migration 21 does where nothing is subscribed. A
 * subscription knows a table by its identity, and passes over changes of one that it does not know though it has the right name;
 * it learns of tables only while it is enabled. So it has a slot that is none from before the table is another until it knows that.
 * What comes meanwhile waits at the cluster. Cut off anywhere it goes on when it is called again; the cluster is to be there.
 */
export async function partitionCopiedAuditLog(pool: Pool, { region, zone }: { region: string; zone: string | null }): Promise<void> {
  await withSubscriptionLock(pool, async (client) => {
    const alter = (what: string) => client.query(`ALTER SUBSCRIPTION ${SUBSCRIPTION} ${what}`)
    const found = await look(client)
    // Being copied a first time: the next start does it.
    if (found === undefined || (found.slot !== NO_SLOT && (found.byDays || found.state !== 'r'))) return
    if (!found.byDays) {
      await alter('DISABLE')
      await untilWorkerHasStopped(client)
      await inTransaction(pool, async (one) => {
        await one.query(`ALTER SUBSCRIPTION ${SUBSCRIPTION} SET (slot_name = ${NO_SLOT})`)
        await one.query('SELECT partition_audit_log()')
        await protectCopy(one, ['audit_log'], zone)
      }).catch(async (error: unknown) => {
        await alter('ENABLE')
        throw error
      })
    }
    await alter('ENABLE')
    // What is in it was copied, or applied, before.
    await alter('REFRESH PUBLICATION WITH (copy_data = false)')
    await alter('DISABLE')
    await alter(`SET (slot_name = ${slotOf(region)})`)
    await alter('ENABLE')
  })
}
