/**
 * Loaded before every test file: ends its process, as failed, when something keeps it alive for HANGS_AFTER_MS, and says
 * what. node:test limits the time of a test, not that of a file whose tests are over.
 */
const HANGS_AFTER_MS = 600_000

setTimeout(() => {
  process.stderr.write(
    `${process.argv[1]} has not ended after ${HANGS_AFTER_MS / 1000} s: ${process.getActiveResourcesInfo().join(', ')}\n`,
  )
  process.exit(1)
}, HANGS_AFTER_MS).unref()
