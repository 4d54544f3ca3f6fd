import { readConfig } from '../config/index.ts'
import { readOptions, runCommand } from './command.ts'
import { API_DRAIN_MS, runRoles } from './roles.ts'

const HELP = `npm run api

Runs the API alone, against DATABASE_URL and TEMPORAL_ADDRESS, on TIDINGS_HOST and TIDINGS_PORT. A dispatcher and delivery
workers (npm run worker) do the rest. SIGTERM stops it after the requests in flight.`

await runCommand({
  help: HELP,
  main(args) {
    readOptions(args, {})
    return runRoles({
      config: readConfig(),
      roles: ['api'],
      lanes: [],
      partitions: [],
      drainMs: API_DRAIN_MS,
      readyLine: (url) => `tidings ready ${url}`,
    })
  },
})
