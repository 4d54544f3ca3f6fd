import type { Queryable } from './pool.ts'

/** Channel on which every process hears of changed applications and endpoints; the payload is the application's id. */
export const CONFIG_CHANNEL = 'tidings_config'

/** Call it in the transaction that changes an application or one of its endpoints: heard when that commits. */
export async function notifyConfigChange(db: Queryable, appId: string): Promise<void> {
  await db.query('SELECT pg_notify($1, $2)', [CONFIG_CHANNEL, appId])
}

/** Channel on which every process hears of messages whose payload was expunged; the payload is the message's id. */
export const EXPUNGED_CHANNEL = 'tidings_expunged'

/** Channel on which every process hears of applications whose data is being erased; the payload is the application's id. */
export const ERASED_CHANNEL = 'tidings_erased'

/** Channel on which every process hears that operational endpoints were changed; without a payload. */
export const OPERATIONAL_CHANNEL = 'tidings_operational'

/** Call it in the transaction that changes an operational endpoint. */
export async function notifyOperationalChange(db: Queryable): Promise<void> {
  await db.query("SELECT pg_notify($1, '')", [OPERATIONAL_CHANNEL])
}
