import { setTimeout as pause } from 'node:timers/promises'
import type { ApiException, AppsV1Api, ConfigurationOptions, Middleware } from '@kubernetes/client-node'
import { LIMITS } from '../domain/limits.ts'
import type { ScalingTarget } from '../domain/scaling.ts'

const FIELD_MANAGER = 'tidings-autoscaler'
const CONFLICT_ATTEMPTS = 5
const CONFLICT_PAUSE_MS = 50
const REPLICAS_MAX = 2_147_483_647

export interface KubernetesTargetOptions {
  /** The Deployment whose Pods are the workers. */
  readonly deployment: string
  /** Undefined: the namespace of the Pod that this process is in, else that of the kubeconfig, else `default`. */
  readonly namespace?: string | undefined
  /** A kubeconfig file. Undefined: what KUBECONFIG names, else `~/.kube/config`, else the service account of the Pod. */
  readonly kubeconfig?: string | undefined
  /** How long one request to the Kubernetes API may take; `LIMITS.kubernetesTimeoutMs` unless told. */
  readonly timeoutMs?: number | undefined
}

/** The Deployment could not be asked or told. The message names it and what the Kubernetes API said. */
export class KubernetesTargetError extends Error {
  override readonly name = 'KubernetesTargetError'
  /**
   * `missing`: there is no such Deployment. `forbidden`: RBAC does not allow it, or the credentials are not known.
   * `conflict`: others kept changing it. `timeout` and `unreachable`: no answer. `refused`: any other answer.
   */
  readonly code: 'missing' | 'forbidden' | 'conflict' | 'timeout' | 'unreachable' | 'refused'

  constructor(code: KubernetesTargetError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

interface Connection {
  readonly apps: AppsV1Api
  readonly namespace: string
  /** What makes a request a merge patch. */
  readonly mergePatch: ConfigurationOptions
}

/**
 * Workers as the Pods of one Deployment. Reads its status and patches its subresource `scale`; it needs nothing else of RBAC
 * (`get` of `deployments/status`, `patch` of `deployments/scale`). The Pods that are too many get SIGTERM and drain.
 *
 * Nothing is asked, nor the client library loaded, before the first call. Both calls throw {@link KubernetesTargetError}.
 */
export function createKubernetesTarget(options: KubernetesTargetOptions): ScalingTarget {
  const { deployment, timeoutMs = LIMITS.kubernetesTimeoutMs } = options
  let connecting: Promise<Connection> | undefined
  const call = async <T>(ask: (connection: Connection) => Promise<T>): Promise<T> => {
    try {
      return await ask(await (connecting ??= connect(options, timeoutMs)))
    } catch (error) {
      throw problemOf(error, deployment, timeoutMs)
    }
  }
  return {
    name: 'kubernetes',
    read: () =>
      call(async ({ apps, namespace }) => {
        const { spec, status } = await apps.readNamespacedDeploymentStatus({ name: deployment, namespace })
        return { wanted: spec?.replicas ?? 0, ready: status?.readyReplicas ?? 0 }
      }),
    async scaleTo(workers) {
      // What is no number would be null in JSON, and null is one Pod.
      if (!Number.isSafeInteger(workers) || workers < 0 || workers > REPLICAS_MAX) throw new RangeError(`${workers} workers`)
      await call((connection) => patchReplicas(connection, deployment, workers))
    },
  }
}

async function connect({ kubeconfig, namespace }: KubernetesTargetOptions, timeoutMs: number): Promise<Connection> {
  const client = await import('@kubernetes/client-node')
  const config = new client.KubeConfig()
  if (kubeconfig === undefined) config.loadFromDefault()
  else config.loadFromFile(kubeconfig)
  const configuration = client.createConfiguration({
    baseServer: new client.ServerConfiguration(config.getCurrentCluster()?.server ?? '', {}),
    authMethods: { default: config },
    promiseMiddleware: [endAfter(timeoutMs)],
  })
  return {
    apps: new client.AppsV1Api(configuration),
    namespace: namespace ?? config.getContextObject(config.getCurrentContext())?.namespace ?? 'default',
    mergePatch: client.setHeaderOptions('Content-Type', client.PatchStrategy.MergePatch),
  }
}

/** The client has no time limit of its own. */
function endAfter(timeoutMs: number): Middleware {
  return {
    pre(request) {
      request.setSignal(AbortSignal.timeout(timeoutMs))
      return Promise.resolve(request)
    },
    post: (response) => Promise.resolve(response),
  }
}

/** A merge patch names no version, so that it fails only where the server itself kept meeting other changes. */
async function patchReplicas({ apps, namespace, mergePatch }: Connection, name: string, replicas: number): Promise<void> {
  const body = { spec: { replicas } }
  for (let attempt = 1; ; attempt++) {
    try {
      await apps.patchNamespacedDeploymentScale(
        { name, namespace, body, fieldManager: FIELD_MANAGER, fieldValidation: 'Strict' },
        mergePatch,
      )
      return
    } catch (error) {
      if (!isAnswer(error) || error.code !== 409 || attempt === CONFLICT_ATTEMPTS) throw error
      await pause(CONFLICT_PAUSE_MS * attempt)
    }
  }
}

function problemOf(error: unknown, deployment: string, timeoutMs: number): KubernetesTargetError {
  const told = (code: KubernetesTargetError['code'], why: string) =>
    new KubernetesTargetError(code, `Deployment ${deployment}: ${why}`, { cause: error })
  if (isAnswer(error)) return told(codeOf(error.code), `${error.code} ${messageOf(error)}`)
  if (error instanceof Error && error.name === 'TimeoutError') return told('timeout', `no answer of the Kubernetes API in ${timeoutMs} ms`)
  // `fetch failed` says nothing; its cause does.
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  return told('unreachable', cause instanceof Error ? cause.message || cause.name : String(cause))
}

function isAnswer(error: unknown): error is ApiException<unknown> {
  return error instanceof Error && 'code' in error && typeof error.code === 'number' && 'body' in error
}

function codeOf(status: number): KubernetesTargetError['code'] {
  if (status === 401 || status === 403) return 'forbidden'
  if (status === 404) return 'missing'
  return status === 409 ? 'conflict' : 'refused'
}

/** The `message` of the `Status` that the Kubernetes API answers with. */
function messageOf({ body }: ApiException<unknown>): string {
  try {
    const status: unknown = typeof body === 'string' ? JSON.parse(body) : body
    if (typeof status === 'object' && status !== null && 'message' in status) return String(status.message)
  } catch {
    // A proxy in front of it answers with something else.
  }
  return typeof body === 'string' ? body.slice(0, 200) : 'without a reason'
}
