/** Dynamic configuration of Temporal servers: names as in its documentation, JSON values. */
export type DynamicConfig = Readonly<Record<string, string | number | boolean>>

/** What every Temporal server of Tidings has, as `deploy/temporal/dynamic-config.yaml` says to operators. */
const OF_EVERY_SERVER: DynamicConfig = {
  // 100 message ids in one keyword list; the default of 2,048 bytes refuses the 61st. Coupled to LIMITS.groupMaxMessages.
  'frontend.searchAttributesSizeOfValueLimit': 8192,
  'matching.enableFairness': true,
}

/** And what one has that runs beside us: what limits it to a few hundred operations a second is set out of the way. */
export const LOCAL_SETTINGS: DynamicConfig = {
  ...OF_EVERY_SERVER,
  'frontend.rps': 100_000,
  'frontend.namespaceRPS': 100_000,
  'frontend.namespaceCount': 100_000,
  'frontend.namespaceRPS.visibility': 1000,
  'frontend.persistenceMaxQPS': 100_000,
  'history.rps': 100_000,
  'history.persistenceMaxQPS': 100_000,
  'matching.rps': 100_000,
  'matching.persistenceMaxQPS': 100_000,
  // Records for lists and searches. Fewer turns would pass over more starts of what has ended, and each would hold up the starts
  // of fan-outs for longer: SQLite has one writer.
  'history.visibilityProcessorMaxPollRPS': 4,
  'history.visibilityProcessorSchedulerWorkerCount': 1,
  'history.visibilityTaskBatchSize': 1000,
  'system.visibilityPersistenceMaxReadQPS': 100_000,
  'system.visibilityPersistenceMaxWriteQPS': 100_000,
}

/**
 * For a server whose namespace is made once. The development server reads the definitions of search attributes from its database
 * whenever it uses them, so that new ones are known at once: a tenth to a quarter of its CPU. Without, a new namespace is ready after two
 * seconds instead of one (medians of 80 and 160).
 */
export const ATTRIBUTES_IN_MEMORY: DynamicConfig = { 'system.forceSearchAttributesCacheRefreshOnRead': false }
