import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { API_DRAIN_MS, STOP_EXTRA_MS } from '../../cli/roles.ts'
import { readConfig, VARIABLES } from '../../config/index.ts'
import { LANES } from '../../domain/names.ts'
import { kubernetesProgram, NO_PROGRAM, runProgram } from '../support/kubernetes-programs.ts'
import {
  CHART,
  deploymentsOf,
  ofKind,
  problemsOf,
  render,
  renderText,
  VALUE_SETS,
  valuesOf,
  type Deployment,
  type Manifest,
} from './chart.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const SECRETS = /SECRET|ENCRYPTION_KEY|API_KEY|DATABASE_(REPLICA_)?URL|REDIS_URL|EGRESS_PROXY/
/** Of `npm start`, which no container runs. */
const EMBEDDED = [
  'TIDINGS_CACHE_DIR',
  'TIDINGS_TEMPORAL_PORT',
  'TIDINGS_TEMPORAL_UI_PORT',
  'TIDINGS_TEMPORAL_METRICS_PORT',
  'TIDINGS_TEMPORAL_SERVER',
  'TIDINGS_POSTGRES_PORT',
]
/** What Kubernetes may need between the end of a process and its looking, seconds. */
const MARGIN_S = 5

const helm = kubernetesProgram('helm')
const validate = kubernetesProgram('kubectl-validate')
const skip = helm === undefined ? `helm ${NO_PROGRAM}` : false
const program = helm ?? ''

const isWorker = ({ container }: Deployment) => container.args[0] === 'cli/worker.ts'
const option = ({ container: { args } }: Deployment, name: string) => args[args.indexOf(name) + 1]

for (const set of VALUE_SETS) {
  const title = set === '' ? 'default values' : `deploy/helm/values/${set}.yaml`
  const rendered = skip === false ? render(program, valuesOf(set)) : Promise.resolve([])

  test(`${title}: helm lint finds nothing`, { skip }, async () => {
    const { code, stdout } = await runProgram(program, ['lint', '--strict', CHART, ...valuesOf(set)])
    assert.equal(code, 0, stdout)
    assert.doesNotMatch(stdout, /\[(WARNING|ERROR)\]/)
  })

  test(`${title}: every object is valid for Kubernetes and KEDA`, { skip }, async (t) => {
    if (validate === undefined) return t.skip(`kubectl-validate ${NO_PROGRAM}`)
    const text = await renderText(program, valuesOf(set))
    assert.equal(await problemsOf(validate, text), '')
    assert.match(await problemsOf(validate, text.replaceAll('readOnlyRootFilesystem:', 'readOnlyRootFileSystem:')), /unknown field/)
  })

  test(`${title}: Pods have no privileges, a bounded memory and no secret in clear`, { skip }, async () => {
    const deployments = deploymentsOf(await rendered)
    assert.ok(deployments.length >= 2)
    for (const { name, pod, container } of deployments) {
      const { runAsNonRoot, runAsUser, seccompProfile } = pod.securityContext as Record<string, unknown>
      assert.deepEqual(
        { runAsNonRoot, runAsUser, seccompProfile },
        { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } },
      )
      assert.deepEqual(container.securityContext, {
        allowPrivilegeEscalation: false,
        privileged: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      })
      assert.ok(container.resources.limits['memory'] !== undefined && container.resources.requests['cpu'] !== undefined, name)
      assert.equal(pod.topologySpreadConstraints.length, 2)
      assert.equal(pod.automountServiceAccountToken, name.endsWith('-autoscaler'))
      for (const { name: variable, value } of container.env) if (SECRETS.test(variable)) assert.equal(value, undefined, variable)
    }
  })

  test(`${title}: processes start with commands that exist and variables that the configuration takes`, { skip }, async () => {
    const manifests = await rendered
    const shared = ofKind(manifests, 'ConfigMap')[0]?.data ?? {}
    for (const variable of Object.keys(shared)) assert.doesNotMatch(variable, SECRETS)
    for (const { container } of deploymentsOf(manifests)) {
      const script = container.args[0] ?? ''
      // The autoscaler's command comes with the autoscaler.
      if (script !== 'cli/autoscale.ts') assert.ok(existsSync(join(ROOT, script)), script)
      const own = container.env.map(({ name, value }) => [name, value ?? exampleOf(name)])
      const environment: Record<string, string> = { ...shared, ...Object.fromEntries(own) }
      for (const variable of Object.keys(environment)) assert.ok((VARIABLES as readonly string[]).includes(variable), variable)
      // Files are there in a Pod only.
      const config = readConfig(Object.fromEntries(Object.entries(environment).filter(([name]) => !/_(PATH|FILE)$/.test(name))))
      assert.equal(config.environment, 'production')
      assert.equal(config.metricsPort, 9464)
    }
  })

  test(`${title}: Kubernetes waits for the drain before it kills`, { skip }, async () => {
    for (const timeoutMs of [100, 30_000, 45_001, 60_000]) {
      const manifests = await render(program, [...valuesOf(set), '--set', `config.TIDINGS_REQUEST_TIMEOUT_MS=${timeoutMs}`])
      for (const deployment of deploymentsOf(manifests)) {
        const sleepMs = (deployment.container.lifecycle?.preStop.sleep.seconds ?? 0) * 1000
        const drainMs = isWorker(deployment) ? timeoutMs : deployment.component === 'api' ? API_DRAIN_MS : 10_000
        const needsS = Math.ceil((sleepMs + drainMs + STOP_EXTRA_MS) / 1000)
        assert.equal(deployment.pod.terminationGracePeriodSeconds, needsS + MARGIN_S, `${deployment.name} at ${timeoutMs} ms`)
      }
    }
  })

  test(`${title}: probes ask ports that are there; a worker is asked on the port of its metrics`, { skip }, async () => {
    for (const deployment of deploymentsOf(await rendered)) {
      if (deployment.component === 'autoscaler') continue
      const { container } = deployment
      const { livenessProbe: live, readinessProbe: ready, startupProbe: start, ports = [] } = container
      assert.deepEqual([live?.httpGet.path, ready?.httpGet.path, start?.httpGet.path], ['/health', '/readyz', '/health'])
      const numbers = Object.fromEntries(ports.map(({ name, containerPort }) => [name, containerPort]))
      for (const probe of [live, start]) assert.equal(numbers[probe?.httpGet.port ?? ''], isWorker(deployment) ? 9464 : 8071)
      // Not the API's own, which is 503 while Temporal is away: publishing goes on then.
      assert.equal(numbers[ready?.httpGet.port ?? ''], 9464)
      assert.ok(start!.periodSeconds * start!.failureThreshold >= 600)
    }
  })

  test(`${title}: everything is done by some process, and every selector finds its Pods`, { skip }, async () => {
    const manifests = await rendered
    const deployments = deploymentsOf(manifests)
    const workers = deployments.filter(isWorker)
    assert.ok(deployments.some(({ component }) => component === 'api'))
    assert.ok(workers.some((one) => option(one, '--role') !== 'delivery'))
    const delivered = workers
      .filter((one) => option(one, '--role') !== 'dispatcher')
      .flatMap((one) => option(one, '--lanes')?.split(',') ?? [])
    for (const lane of LANES) assert.ok(delivered.includes(lane), lane)
    for (const one of selecting(manifests)) {
      assert.ok(
        deployments.some(({ labels }) => Object.entries(one.labels).every(([key, value]) => labels[key] === value)),
        one.name,
      )
    }
    const disrupted = ofKind(manifests, 'PodDisruptionBudget').map(({ metadata }) => metadata.name)
    for (const { name, component } of deployments) assert.equal(disrupted.includes(name), component !== 'autoscaler', name)
  })
}

const exampleOf = (variable: string): string =>
  /DATABASE_(REPLICA_)?URL/.test(variable)
    ? 'postgres://tidings:secret@postgres/tidings'
    : variable === 'TIDINGS_REDIS_URL'
      ? 'redis://valkey:6379'
      : `filled-in-for-${variable}-0123456789abcdef`

/** The labels that budgets, policies and Services choose Pods by. */
function selecting(
  manifests: readonly Manifest[],
): readonly { readonly name: string; readonly labels: Readonly<Record<string, string>> }[] {
  return manifests
    .filter(({ kind }) => ['PodDisruptionBudget', 'NetworkPolicy', 'Service'].includes(kind))
    .map(({ kind, metadata, spec }) => {
      const { selector = {}, podSelector } = spec as Record<string, { matchLabels?: Record<string, string> } & Record<string, string>>
      return { name: `${kind} ${metadata.name}`, labels: kind === 'Service' ? selector : ((podSelector ?? selector).matchLabels ?? {}) }
    })
}

test('what waits for a promotion is not killed meanwhile, and is replaced at once', { skip }, async () => {
  const specOf = async (args: readonly string[]) => {
    const [api] = ofKind(await render(program, args), 'Deployment')
    return api!.spec as { progressDeadlineSeconds: number; strategy: { type?: string; rollingUpdate?: object } }
  }
  const [plain, waiting] = [await specOf([]), await specOf(['--set', 'waitsForPromotion=true'])]
  assert.deepEqual([plain.progressDeadlineSeconds, plain.strategy.type], [660, undefined])
  assert.deepEqual(waiting.strategy, { type: 'Recreate' })
  const { container } = deploymentsOf(await render(program, ['--set', 'waitsForPromotion=true']))[0]!
  const years = (container.startupProbe!.periodSeconds * container.startupProbe!.failureThreshold) / (365 * 86_400)
  assert.ok(years > 10 && waiting.progressDeadlineSeconds > 10 * 365 * 86_400 && waiting.progressDeadlineSeconds < 2 ** 31)
})

test('the regions file is mounted where processes look for it, and a changed one restarts them', { skip }, async () => {
  const file = join(ROOT, 'config/regions.json')
  const args = ['--set-file', `regions=${file}`, '--set', 'config.TIDINGS_REGION=us-west']
  const manifests = await render(program, args)
  const [shared, regions] = ['hooks-tidings', 'hooks-tidings-regions'].map((name) =>
    ofKind(manifests, 'ConfigMap').find(({ metadata }) => metadata.name === name),
  )
  assert.equal(regions?.data?.['regions.json'], readFileSync(file, 'utf8'))
  const path = shared?.data?.['TIDINGS_REGIONS_FILE'] ?? ''
  for (const { name, pod, container } of deploymentsOf(manifests)) {
    const { mountPath } = container.volumeMounts.find((one) => one.name === 'regions')!
    assert.equal(`${mountPath}/regions.json`, path, name)
    assert.deepEqual(pod.volumes.find((one) => one.name === 'regions')?.configMap, { name: 'hooks-tidings-regions' })
  }
  const digests = async (more: readonly string[]) => /tidings\/regions: (\w+)/.exec(await renderText(program, more))?.[1]
  assert.notEqual(await digests(args), await digests(valuesOf('everything')))
  assert.equal(await digests([]), undefined)
})

test('the autoscaler may read the status and change the scale of one Deployment, and nothing else', { skip }, async () => {
  const manifests = await render(program, valuesOf('autoscaler'))
  const [role] = ofKind(manifests, 'Role')
  const resourceNames = ['hooks-tidings-all']
  assert.deepEqual(role?.rules, [
    { apiGroups: ['apps'], resources: ['deployments/status'], resourceNames, verbs: ['get'] },
    { apiGroups: ['apps'], resources: ['deployments/scale'], resourceNames, verbs: ['patch'] },
  ])
  assert.equal(ofKind(manifests, 'ClusterRole').length, 0)
  const deployments = deploymentsOf(manifests)
  const scaler = deployments.find(({ component }) => component === 'autoscaler')
  assert.ok(scaler)
  assert.equal(scaler.container.env.find(({ name }) => name === 'TIDINGS_KUBERNETES_DEPLOYMENT')?.value, resourceNames[0])
  assert.equal(scaler.pod.serviceAccountName, 'hooks-tidings-autoscaler')
  // An upgrade of the release must not undo what the autoscaler has decided.
  assert.equal(deployments.find(({ component }) => component === 'all')?.replicas, undefined)
})

test('values that are no setting, or that contradict each other, are refused', { skip }, async () => {
  const refused: readonly (readonly [string[], RegExp])[] = [
    [['--set', 'config.TIDINGS_PARTITONS=8'], /TIDINGS_PARTITONS/],
    [['--set', 'config.TIDINGS_JWT_SECRET=in-clear'], /TIDINGS_JWT_SECRET/],
    [['--set', 'image.tags=1'], /tags/],
    [['--set', 'workers.fast.lanes={quick}'], /lanes/],
    [['--set', 'secrets.DATABASE_URL=null'], /DATABASE_URL/],
    [['--set', 'autoscaler.enabled=true'], /workers\.all is not enabled/],
    [[...valuesOf('autoscaler'), '--set', 'keda.enabled=true'], /one of them/],
    [['--set', 'keda.enabled=true,temporal.tls.enabled=true'], /client certificate/],
    [['--set', 'api.ingress.enabled=true'], /api\.ingress\.host/],
    [['--set-file', `regions=${join(ROOT, 'config/regions.json')}`], /no region "local"/],
    [['--set', 'config.TIDINGS_REGIONS_FILE=/tmp/regions.json'], /TIDINGS_REGIONS_FILE/],
  ]
  for (const [args, why] of refused) await assert.rejects(renderText(program, args), why, args.join(' '))
})

test('values become the text that the configuration reads, numbers in full', { skip }, async () => {
  const { data } = ofKind(await render(program, valuesOf('everything')), 'ConfigMap')[0]!
  const { TIDINGS_RATE_LIMIT, TIDINGS_RETRY_TIME_SCALE, TIDINGS_REQUIRE_HTTPS, TIDINGS_PARTITIONS } = data ?? {}
  assert.deepEqual(
    [TIDINGS_RATE_LIMIT, TIDINGS_RETRY_TIME_SCALE, TIDINGS_REQUIRE_HTTPS, TIDINGS_PARTITIONS],
    ['1000000', '0.5', 'true', '2'],
  )
})

test('the schema of the values knows every variable of the configuration', () => {
  const schema = JSON.parse(readFileSync(join(CHART, 'values.schema.json'), 'utf8')) as {
    properties: Record<'config' | 'secrets', { propertyNames: { enum: string[] } }>
  }
  const set = [...readFileSync(join(CHART, 'templates/configmap.yaml'), 'utf8').matchAll(/^ {2}([A-Z_]+):/gm)].map(([, name]) => name)
  const known = [...schema.properties.config.propertyNames.enum, ...schema.properties.secrets.propertyNames.enum, ...set, ...EMBEDDED]
  const missing = VARIABLES.filter((name) => ![...known, 'TIDINGS_KUBERNETES_DEPLOYMENT'].includes(name))
  assert.deepEqual(missing, [], 'add them to config or secrets in values.schema.json')
})

test('the release of the chart is that of package.json', () => {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string }
  const chart = readFileSync(join(CHART, 'Chart.yaml'), 'utf8')
  assert.match(chart, new RegExp(`^appVersion: ${version}$`, 'm'))
})
