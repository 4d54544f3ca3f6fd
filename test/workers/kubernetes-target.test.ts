import assert from 'node:assert/strict'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { createKubernetesTarget, KubernetesTargetError } from '../../workers/kubernetes-target.ts'
import { ofKind, render, valuesOf } from '../deploy/chart.ts'
import { kubernetesProgram, NO_PROGRAM } from '../support/kubernetes-programs.ts'
import { kubeconfigOf, startKubernetesServer, type Rule, type StoredDeployment } from '../support/kubernetes-server.ts'
import { createScratch } from '../support/scratch.ts'

const NAMESPACE = 'webhooks'
const RULES: readonly Rule[] = [
  { apiGroups: ['apps'], resources: ['deployments/status'], resourceNames: ['workers', 'nothing'], verbs: ['get'] },
  { apiGroups: ['apps'], resources: ['deployments/scale'], resourceNames: ['workers', 'nothing'], verbs: ['patch'] },
]

function deployment(name: string): StoredDeployment {
  const labels = { app: name }
  const template = { metadata: { labels }, spec: { containers: [{ name: 'worker', image: 'tidings:0.1.0' }] } }
  return {
    metadata: { name, namespace: NAMESPACE, resourceVersion: '1' },
    spec: { replicas: 2, selector: { matchLabels: labels }, template },
    status: { replicas: 2, readyReplicas: 1 },
  }
}

async function start(t: TestContext, deployments = [deployment('workers'), deployment('api')], rules = RULES) {
  const server = await startKubernetesServer({ deployments, rights: { token: { namespace: NAMESPACE, rules } } })
  t.after(() => server.stop())
  const targetOf = (name: string, namespace?: string) =>
    createKubernetesTarget({ deployment: name, namespace, kubeconfig: server.kubeconfig('token', NAMESPACE) })
  return { server, targetOf, stored: deployments[0]! }
}

const failsWith = (code: KubernetesTargetError['code'], text: RegExp) => (error: unknown) => {
  assert.ok(error instanceof KubernetesTargetError, String(error))
  assert.equal(error.code, code, error.message)
  assert.match(error.message, text)
  return true
}

test('a Deployment is scaled through its subresource, and read back', async (t) => {
  const { server, targetOf, stored } = await start(t)
  const target = targetOf('workers')
  assert.equal(target.name, 'kubernetes')
  assert.deepEqual(await target.read(), { wanted: 2, ready: 1 })
  await target.scaleTo(7)
  assert.equal(stored.spec.replicas, 7)
  stored.status = { replicas: 7, readyReplicas: 5 }
  assert.deepEqual(await target.read(), { wanted: 7, ready: 5 })
  await target.scaleTo(0)
  stored.status = {}
  assert.deepEqual(await target.read(), { wanted: 0, ready: 0 })
  assert.equal(server.requests(), 5)
  assert.deepEqual(server.violations, [])
})

test('the rights that the chart gives its autoscaler are enough to scale its workers, and nothing else', async (t) => {
  const helm = kubernetesProgram('helm')
  if (helm === undefined) return t.skip(`helm ${NO_PROGRAM}`)
  const manifests = await render(helm, valuesOf('autoscaler'))
  const stored = ofKind(manifests, 'Deployment').map((one) => {
    const metadata = { ...one.metadata, namespace: NAMESPACE, resourceVersion: '1' }
    return { ...one, metadata, spec: one.spec as StoredDeployment['spec'], status: {} }
  })
  const { server, targetOf } = await start(t, stored, ofKind(manifests, 'Role')[0]!.rules as readonly Rule[])
  const target = targetOf('hooks-tidings-all')
  await target.scaleTo(12)
  assert.deepEqual(await target.read(), { wanted: 12, ready: 0 })
  await assert.rejects(targetOf('hooks-tidings-api').scaleTo(0), failsWith('forbidden', /hooks-tidings-api.*cannot patch/))
  assert.deepEqual(server.violations, [])
})

test('what is not allowed, or not there, is told apart', async (t) => {
  const { server, targetOf } = await start(t)
  await assert.rejects(targetOf('api').read(), failsWith('forbidden', /^Deployment api: 403 .*cannot get resource "deployments\/status"/))
  await assert.rejects(targetOf('api').scaleTo(3), failsWith('forbidden', /cannot patch resource "deployments\/scale"/))
  await assert.rejects(targetOf('workers', 'default').scaleTo(3), failsWith('forbidden', /namespace "default"/))
  await assert.rejects(targetOf('nothing').read(), failsWith('missing', /404 .*not found/))
  await assert.rejects(targetOf('nothing').scaleTo(3), failsWith('missing', /404 .*not found/))
  const stranger = createKubernetesTarget({ deployment: 'workers', kubeconfig: server.kubeconfig('stranger', NAMESPACE) })
  await assert.rejects(stranger.read(), failsWith('forbidden', /401/))
  assert.deepEqual(server.violations, [])
  for (const one of server.deployments) assert.equal(one.spec.replicas, 2)
})

test('a conflict is tried again, but not for ever', async (t) => {
  const { server, targetOf, stored } = await start(t)
  server.conflicts(4)
  await targetOf('workers').scaleTo(5)
  assert.equal(stored.spec.replicas, 5)
  server.conflicts(5)
  await assert.rejects(targetOf('workers').scaleTo(9), failsWith('conflict', /409 .*has been modified/))
  assert.equal(stored.spec.replicas, 5)
  assert.equal(server.requests(), 10)
})

test('what is no number of Pods asks for nothing', async (t) => {
  const { server, targetOf } = await start(t)
  for (const workers of [-1, 1.5, NaN, Infinity, 2 ** 31]) await assert.rejects(targetOf('workers').scaleTo(workers), RangeError)
  assert.equal(server.requests(), 0)
})

test('an API server that does not answer, or is not there, is given up in time', async () => {
  const scratch = createScratch('kubernetes')
  const sockets: Socket[] = []
  const silent = createServer((socket) => sockets.push(socket)).listen(0, '127.0.0.1')
  await once(silent, 'listening')
  const kubeconfig = join(scratch.path, 'kubeconfig')
  writeFileSync(kubeconfig, JSON.stringify(kubeconfigOf(`https://127.0.0.1:${(silent.address() as AddressInfo).port}`, 'token', 'default')))
  const target = createKubernetesTarget({ deployment: 'workers', kubeconfig, timeoutMs: 200 })
  try {
    await assert.rejects(target.read(), failsWith('timeout', /workers: no answer of the Kubernetes API in 200 ms/))
    await assert.rejects(target.scaleTo(2), failsWith('timeout', /200 ms/))
  } finally {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => silent.close(resolve))
  }
  await assert.rejects(target.read(), failsWith('unreachable', /ECONNREFUSED/))
  scratch.remove()
  const lost = createKubernetesTarget({ deployment: 'workers', kubeconfig })
  await assert.rejects(lost.read(), failsWith('unreachable', /no such file/))
})
