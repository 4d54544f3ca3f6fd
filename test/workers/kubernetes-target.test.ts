import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { AppsV1Api, CoreV1Api, PatchStrategy, setHeaderOptions } from '@kubernetes/client-node'
import { createKubernetesTarget, KubernetesTargetError } from '../../workers/kubernetes-target.ts'
import { deploymentsOf, render, valuesOf } from '../deploy/chart.ts'
import { startKubernetesApi, type KubernetesApi } from '../support/kubernetes-api.ts'
import { kubernetesProgram, NO_PROGRAM } from '../support/kubernetes-programs.ts'
import { applyAll, serviceAccountToken } from '../support/kubernetes-objects.ts'

const needed = (['helm', 'kube-apiserver', 'etcd'] as const).find((name) => kubernetesProgram(name) === undefined)
const skip = needed === undefined ? false : `${needed} ${NO_PROGRAM}`
const NAMESPACE = 'webhooks'
const DEPLOYMENT = 'hooks-tidings-all'
const ACCOUNT = 'hooks-tidings-autoscaler'

const failsWith = (code: KubernetesTargetError['code'], text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof KubernetesTargetError, String(error))
  assert.equal(error.code, code, error.message)
  assert.match(error.message, text)
  return true
}

describe('the Kubernetes target, at a real API server with the chart on it', { skip }, () => {
  let api: KubernetesApi
  let kubeconfig: string

  before(async () => {
    const started = await startKubernetesApi()
    assert.ok(started)
    api = started
    await api.admin.makeApiClient(CoreV1Api).createNamespace({ body: { metadata: { name: NAMESPACE } } })
    await applyAll(api.admin, await render(kubernetesProgram('helm') ?? '', valuesOf('autoscaler')), NAMESPACE)
    kubeconfig = api.kubeconfig(await serviceAccountToken(api.admin, NAMESPACE, ACCOUNT), { namespace: NAMESPACE })
  })
  after(() => api?.stop())

  const replicas = async () => {
    const { spec } = await api.admin.makeApiClient(AppsV1Api).readNamespacedDeployment({ name: DEPLOYMENT, namespace: NAMESPACE })
    return spec?.replicas
  }

  test('the rights that the chart gives are enough to scale its workers, and to see those that are ready', async () => {
    const target = createKubernetesTarget({ deployment: DEPLOYMENT, kubeconfig })
    assert.equal(target.name, 'kubernetes')
    assert.deepEqual(await target.read(), { wanted: 1, ready: 0 })
    await target.scaleTo(7)
    assert.equal(await replicas(), 7)
    const options = setHeaderOptions('Content-Type', PatchStrategy.MergePatch)
    // What the controller does when five of the Pods answer their readiness probe.
    const body = { status: { replicas: 7, readyReplicas: 5 } }
    await api.admin.makeApiClient(AppsV1Api).patchNamespacedDeploymentStatus({ name: DEPLOYMENT, namespace: NAMESPACE, body }, options)
    assert.deepEqual(await target.read(), { wanted: 7, ready: 5 })
    await target.scaleTo(0)
    assert.deepEqual(await target.read(), { wanted: 0, ready: 5 })
  })

  test('they are enough for nothing else', async () => {
    const other = createKubernetesTarget({ deployment: 'hooks-tidings-api', kubeconfig })
    await assert.rejects(other.read(), failsWith('forbidden', /hooks-tidings-api.*deployments\/status/s))
    await assert.rejects(other.scaleTo(0), failsWith('forbidden', /deployments\/scale/))
    const elsewhere = createKubernetesTarget({ deployment: DEPLOYMENT, namespace: 'default', kubeconfig })
    await assert.rejects(elsewhere.scaleTo(1), failsWith('forbidden', /"default"/))
    const core = api.admin.makeApiClient(AppsV1Api)
    assert.equal((await core.readNamespacedDeployment({ name: 'hooks-tidings-api', namespace: NAMESPACE })).spec?.replicas, 2)
    const nobody = createKubernetesTarget({ deployment: DEPLOYMENT, kubeconfig: api.kubeconfig('no-token') })
    await assert.rejects(nobody.read(), failsWith('forbidden', /401/))
  })

  test('a Deployment that is not there is missing', async () => {
    const admin = createKubernetesTarget({ deployment: 'nothing', kubeconfig: api.kubeconfig('token-of-the-administrator') })
    await assert.rejects(admin.read(), failsWith('missing', /nothing.*not found/))
    await assert.rejects(admin.scaleTo(3), failsWith('missing', /not found/))
  })

  test('what is no number of Pods changes nothing', async () => {
    const target = createKubernetesTarget({ deployment: DEPLOYMENT, kubeconfig })
    await target.scaleTo(4)
    for (const workers of [-1, 1.5, NaN, Infinity, 2 ** 31]) await assert.rejects(target.scaleTo(workers), RangeError)
    assert.equal(await replicas(), 4)
  })

  test('changes by others at the same time do not get in its way, and are kept', async () => {
    const target = createKubernetesTarget({ deployment: DEPLOYMENT, kubeconfig })
    const apps = api.admin.makeApiClient(AppsV1Api)
    const options = setHeaderOptions('Content-Type', PatchStrategy.MergePatch)
    const annotate = (n: number) => {
      const body = { metadata: { annotations: { [`change-${n}`]: String(n) } } }
      return apps.patchNamespacedDeployment({ name: DEPLOYMENT, namespace: NAMESPACE, body }, options)
    }
    const all = Array.from({ length: 20 }, (_, n) => Promise.all([annotate(n).catch(() => annotate(n)), target.scaleTo(10 + n)]))
    await Promise.all(all)
    await target.scaleTo(40)
    const { metadata, spec } = await apps.readNamespacedDeployment({ name: DEPLOYMENT, namespace: NAMESPACE })
    assert.equal(spec?.replicas, 40)
    assert.equal(Object.keys(metadata?.annotations ?? {}).filter((name) => name.startsWith('change-')).length, 20)
  })

  test('the Deployments of the chart are those that it scales', async () => {
    const [all] = deploymentsOf(await render(kubernetesProgram('helm') ?? '', valuesOf('autoscaler'))).filter(({ component }) => component === 'all')
    assert.equal(all?.name, DEPLOYMENT)
  })
})

test('an API server that does not answer, or is not there, is given up in time', async () => {
  const silent = createServer(() => undefined).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const { port } = silent.address() as AddressInfo
  const { kubeconfig, remove } = kubeconfigAt(`http://127.0.0.1:${port}`)
  try {
    const target = createKubernetesTarget({ deployment: 'workers', kubeconfig, timeoutMs: 200 })
    await assert.rejects(target.read(), failsWith('timeout', /workers: no answer of the Kubernetes API in 200 ms/))
    await assert.rejects(target.scaleTo(2), failsWith('timeout', /200 ms/))
    await new Promise((resolve) => silent.close(resolve))
    await assert.rejects(target.read(), failsWith('unreachable', /ECONNREFUSED/))
    const lost = createKubernetesTarget({ deployment: 'workers', kubeconfig: `${kubeconfig}-of-nobody` })
    await assert.rejects(lost.read(), failsWith('unreachable', /no such file/))
  } finally {
    remove()
  }
})
