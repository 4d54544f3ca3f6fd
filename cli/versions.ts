import { setTimeout as delay } from 'node:timers/promises'
import { readConfig } from '../config/index.ts'
import { isNotReady, openVersions, type Deployment, type Versions } from '../workers/versions.ts'
import { readOptions, runCommand } from './command.ts'
import { CommandFailure, reasonOf } from './failure.ts'

const HELP = `npm run versions -- [options]

Shows the versions of the workers (TIDINGS_BUILD_ID) that the Temporal server of TEMPORAL_ADDRESS knows, and which of them is
given work. With an option it changes that first:
  --current BUILD     new work goes to this version from now on, and mailboxes go on there
  --ramp BUILD        only --percent of it does; --percent 0 ends the ramp
  --percent 10        1 to 100
  --unversioned       new work goes to workers without TIDINGS_BUILD_ID
  --drained BUILD     waits until the version has nothing open any more: its workers may be stopped then
  --within 120        seconds to wait for the version's workers, or for its end, 0 to 3600
  --json              prints what it knows as JSON`

const WITHIN_MAX_S = 3600
const ASK_EVERY_MS = 1000

await runCommand({
  help: HELP,
  async main(args) {
    const text = { type: 'string' } as const
    const flag = { type: 'boolean', default: false } as const
    const options = readOptions(args, {
      ...{ current: text, ramp: text, drained: text, unversioned: flag, json: flag },
      ...{ percent: { ...text, default: '10' }, within: { ...text, default: '120' } },
    })
    const { current, ramp, drained, unversioned } = options
    const asked = [current, ramp, drained, unversioned || undefined].filter((one) => one !== undefined)
    if (asked.length > 1) throw usage('--current, --ramp, --drained and --unversioned exclude each other')
    const percent = readNumber('--percent', options.percent, 100)
    const withinMs = readNumber('--within', options.within, WITHIN_MAX_S) * 1000
    const { temporalAddress, temporalNamespace, temporalAccess, deploymentName } = readConfig()
    if (temporalAddress === undefined) throw usage('set TEMPORAL_ADDRESS')
    const versions = await openVersions(temporalAddress, temporalNamespace, temporalAccess)
    try {
      if (current !== undefined) await whenReady(withinMs, () => versions.setCurrent(deploymentName, current))
      if (unversioned) await versions.setCurrent(deploymentName, undefined)
      if (ramp !== undefined) await whenReady(withinMs, () => versions.ramp({ deploymentName, buildId: ramp }, percent))
      if (drained !== undefined) await untilDrained(versions, deploymentName, drained, withinMs)
      const deployment = await versions.read(deploymentName)
      process.stdout.write(options.json ? `${JSON.stringify(deployment ?? null)}\n` : describe(deploymentName, deployment))
      return 0
    } finally {
      await versions.close()
    }
  },
})

/** Workers that have just been started are not known at every task queue yet. */
async function whenReady(withinMs: number, change: () => Promise<void>): Promise<void> {
  const endMs = performance.now() + withinMs
  for (;;) {
    try {
      return await change()
    } catch (cause) {
      if (!isNotReady(cause)) throw cause
      if (performance.now() >= endMs)
        throw new CommandFailure('version_not_ready', `the version is not ready: ${reasonOf(cause)}`, { cause })
      await delay(ASK_EVERY_MS)
    }
  }
}

async function untilDrained(versions: Versions, deploymentName: string, buildId: string, withinMs: number): Promise<void> {
  const endMs = performance.now() + withinMs
  for (;;) {
    const version = (await versions.read(deploymentName))?.versions.find((one) => one.buildId === buildId)
    if (version === undefined) throw new CommandFailure('usage', `no workers of the version ${buildId} are known`)
    // A version that was never given work has nothing to end.
    if (version.status === 'drained' || version.status === 'inactive') return
    if (version.status === 'current' || version.status === 'ramping') {
      throw new CommandFailure('usage', `the version ${buildId} is ${version.status}: give its work to another one first`)
    }
    if (performance.now() >= endMs)
      throw new CommandFailure('version_not_drained', `the version ${buildId} still has fan-outs that are open`)
    await delay(ASK_EVERY_MS)
  }
}

function describe(deploymentName: string, deployment: Deployment | undefined): string {
  if (deployment === undefined) return `${deploymentName}: no workers with TIDINGS_BUILD_ID were ever seen\n`
  const lines = deployment.versions.map(({ buildId, status, sinceMs }) => {
    const percent = deployment.ramp?.buildId === buildId ? ` ${deployment.ramp.percent} %` : ''
    const since = sinceMs === undefined ? '' : ` since ${new Date(sinceMs).toISOString()}`
    return `${buildId}  ${status}${percent}${since}\n`
  })
  const current = deployment.currentBuildId ?? 'workers without TIDINGS_BUILD_ID'
  return `${deploymentName}: new work goes to ${current}\n${lines.join('')}`
}

function readNumber(name: string, text: string, maximum: number): number {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 0 || number > maximum) throw usage(`${name} is a number from 0 to ${maximum}`)
  return number
}

function usage(text: string): CommandFailure {
  return new CommandFailure('usage', `${text} (--help shows the options)`)
}
