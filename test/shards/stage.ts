import { prepareNamespace } from '../../cli/embedded/namespace.ts'
import { readConfig } from '../../config/index.ts'
import { LANES } from '../../domain/names.ts'
import { setUpSharedConfiguration } from '../../storage/config-set-up.ts'
import { migrate } from '../../storage/migrate.ts'
import { createPool, type Pool } from '../../storage/pool.ts'
import { claimShard } from '../../storage/shard.ts'
import { startService } from '../../workers/service.ts'
import { runLog, TEST_SECRET } from '../support/service.ts'
import type { TestTemporal } from '../support/temporal.ts'

/** A process of one shard, with every role. */
export interface ShardProcess {
  readonly url: string
  readonly pool: Pool
  stop(): Promise<void>
}

export interface ShardOptions {
  /** As in DATABASE_SHARD_URLS. */
  readonly shardUrls: readonly string[]
  readonly own: number
  readonly configUrl: string
  readonly temporal: TestTemporal
}

/** Starts what `npm start` starts of a shard whose servers run. */
export async function startShard({ shardUrls, own, configUrl, temporal }: ShardOptions): Promise<ShardProcess> {
  const config = readConfig({
    TIDINGS_PORT: '0',
    TIDINGS_JWT_SECRET: TEST_SECRET,
    TIDINGS_ENCRYPTION_KEY: TEST_SECRET,
    TIDINGS_ALLOW_SUBNETS: '127.0.0.0/8',
    TIDINGS_PARTITIONS: '1',
    TIDINGS_RETRY_SCHEDULE: '1',
    TIDINGS_RETRY_TIME_SCALE: '0.05',
    DATABASE_SHARD_URLS: shardUrls.join(','),
    TIDINGS_SHARD: String(own),
    CONFIG_DATABASE_URLS: configUrl,
    TEMPORAL_ADDRESS: temporal.address,
    TEMPORAL_NAMESPACE: temporal.namespace,
  })
  const pool = createPool(config.databaseUrl!, 2)
  await migrate(pool)
  await claimShard(pool, config.shards!.own, Date.now())
  await setUpSharedConfiguration(pool, { urls: [configUrl], region: config.copyName, zone: null })
  await prepareNamespace(temporal.address, config.temporalNamespace)
  const service = await startService(config, {
    roles: ['api', 'dispatcher', 'delivery'],
    lanes: LANES,
    partitions: 'all',
    log: runLog(),
    drainMs: 1000,
  })
  return {
    url: service.url!,
    pool,
    async stop() {
      await service.stop()
      await pool.end()
    },
  }
}
