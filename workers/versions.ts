import { Connection, isGrpcServiceError } from '@temporalio/client'
import type { TemporalAccess, WorkerVersion } from '../config/temporal.ts'

/** What a version is to its deployment: `inactive` was never given work, `drained` has no fan-out that is open any more. */
export type VersionStatus = 'unknown' | 'inactive' | 'current' | 'ramping' | 'draining' | 'drained'

export interface DeployedVersion {
  readonly buildId: string
  readonly status: VersionStatus
  /** Unix milliseconds since when it has been what it is, where Temporal tells. */
  readonly sinceMs: number | undefined
}

export interface Deployment {
  /** Undefined: workers of no version are given what is new. */
  readonly currentBuildId: string | undefined
  readonly ramp: { readonly buildId: string; readonly percent: number } | undefined
  readonly versions: readonly DeployedVersion[]
}

/** The versions of one deployment, as the Temporal server keeps them. */
export interface Versions {
  /** Undefined where no worker of the deployment was ever seen. */
  read(deploymentName: string): Promise<Deployment | undefined>
  /**
   * From now on new workflows begin, and those that are of no version or of no fixed one go on, at this version. Without a
   * build: at workers of no version.
   * @throws where the server has not seen the version's workers at every task queue that the current one serves, see `isNotReady`
   */
  setCurrent(deploymentName: string, buildId: string | undefined): Promise<void>
  /** A share of them does, in percent; 0 ends the ramp. @throws as `setCurrent` */
  ramp(version: WorkerVersion, percent: number): Promise<void>
  close(): Promise<void>
}

const CALL_TIMEOUT_MS = 15_000
// Numbers of Temporal's enum WorkerDeploymentVersionStatus.
const STATUSES: readonly VersionStatus[] = ['unknown', 'inactive', 'current', 'ramping', 'draining', 'drained']
const GRPC_NOT_FOUND = 5
const GRPC_FAILED_PRECONDITION = 9

const hasCode = (error: unknown, ...codes: number[]) => isGrpcServiceError(error) && codes.includes(Number(error.code))

/** Whether the server has not (yet) seen all workers of the version. */
export function isNotReady(error: unknown): boolean {
  return hasCode(error, GRPC_NOT_FOUND, GRPC_FAILED_PRECONDITION)
}

/** @throws where Temporal cannot be reached */
export async function openVersions(address: string, namespace: string, access: TemporalAccess): Promise<Versions> {
  const connection = await Connection.connect({ address, connectTimeout: CALL_TIMEOUT_MS, ...access })
  const { workflowService } = connection
  const call = <T>(work: () => Promise<T>) => connection.withDeadline(Date.now() + CALL_TIMEOUT_MS, work)
  return {
    async read(deploymentName) {
      try {
        return toDeployment(await call(() => workflowService.describeWorkerDeployment({ namespace, deploymentName })))
      } catch (error) {
        if (hasCode(error, GRPC_NOT_FOUND)) return undefined
        throw error
      }
    },
    async setCurrent(deploymentName, buildId) {
      await call(() => workflowService.setWorkerDeploymentCurrentVersion({ namespace, deploymentName, buildId: buildId ?? '' }))
    },
    async ramp({ deploymentName, buildId }, percent) {
      // A ramp of nothing is none: it is taken back with the build left out.
      const ramped = percent === 0 ? {} : { buildId, percentage: percent }
      await call(() => workflowService.setWorkerDeploymentRampingVersion({ namespace, deploymentName, ...ramped }))
    },
    close: () => connection.close(),
  }
}

type Described = Awaited<ReturnType<Connection['workflowService']['describeWorkerDeployment']>>

function toDeployment({ workerDeploymentInfo: info }: Described): Deployment {
  const routing = info?.routingConfig
  const ramping = routing?.rampingDeploymentVersion?.buildId ?? undefined
  const versions = (info?.versionSummaries ?? []).map((one): DeployedVersion => {
    const since = one.currentSinceTime ?? one.rampingSinceTime ?? one.drainageInfo?.lastChangedTime ?? one.createTime
    return {
      buildId: one.deploymentVersion?.buildId ?? '',
      status: STATUSES[one.status ?? 0] ?? 'unknown',
      sinceMs: since ? Number(since.seconds ?? 0) * 1000 : undefined,
    }
  })
  return {
    currentBuildId: routing?.currentDeploymentVersion?.buildId ?? undefined,
    ramp: ramping === undefined ? undefined : { buildId: ramping, percent: routing?.rampingVersionPercentage ?? 0 },
    versions,
  }
}
