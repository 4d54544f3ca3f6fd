import { readConfig } from '../config/index.ts'
import { LANES, type Lane } from '../domain/names.ts'
import type { Role } from '../workers/service.ts'
import { readOptions, runCommand } from './command.ts'
import { CommandFailure } from './failure.ts'
import { runRoles } from './roles.ts'

const HELP = `npm run worker -- [options]

Runs dispatcher, delivery workers or both, without the API, against DATABASE_URL and TEMPORAL_ADDRESS.
  --role dispatcher|delivery|all   what to run (all)
  --lanes fast,slow,retry          lanes that the delivery workers serve (all)
  --partitions 0,1|all             partitions that they serve; all: of TIDINGS_PARTITIONS and of what it was (all)
SIGTERM stops it after the requests in flight, at most TIDINGS_REQUEST_TIMEOUT_MS: give it that long before a kill.`

const ROLES: Readonly<Record<string, readonly Role[]>> = {
  dispatcher: ['dispatcher'],
  delivery: ['delivery'],
  all: ['dispatcher', 'delivery'],
}

const partsOf = (text: string) => text.split(',').map((part) => part.trim())

await runCommand({
  help: HELP,
  main(args) {
    const options = readOptions(args, { role: { type: 'string' }, lanes: { type: 'string' }, partitions: { type: 'string' } })
    const config = readConfig()
    const role = options.role ?? 'all'
    const roles = ROLES[role]
    if (roles === undefined) throw new CommandFailure('usage', `--role ${role}: must be dispatcher, delivery or all`)
    return runRoles({
      config,
      roles,
      lanes: readLanes(options.lanes ?? 'all'),
      partitions: readPartitions(options.partitions ?? 'all', config.partitions),
      drainMs: config.requestTimeoutMs,
      readyLine: () => `tidings worker ready ${role}`,
    })
  },
})

function readLanes(text: string): readonly Lane[] {
  if (text === 'all') return LANES
  return partsOf(text).map((name) => {
    const lane = LANES.find((known) => known === name)
    if (lane === undefined) throw new CommandFailure('usage', `--lanes ${text}: "${name}" is none of ${LANES.join(', ')}`)
    return lane
  })
}

function readPartitions(text: string, partitions: number): readonly number[] | 'all' {
  if (text === 'all') return 'all'
  return partsOf(text).map((part) => {
    const partition = /^\d+$/.test(part) ? Number(part) : partitions
    if (partition >= partitions) {
      throw new CommandFailure('usage', `--partitions ${text}: "${part}" is no partition, TIDINGS_PARTITIONS has 0 to ${partitions - 1}`)
    }
    return partition
  })
}
