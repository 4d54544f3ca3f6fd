import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { readConfig, VARIABLES } from '../../config/index.ts'
import { kubernetesProgram, NO_PROGRAM, runProgram } from '../support/kubernetes-programs.ts'
import { CHART, deploymentsOf, ofKind, problemsOf, render, renderText, type Manifest } from './chart.ts'
import {
  environmentOf,
  EXAMPLE,
  KUBERNETES_FOLDER,
  manifestsOf,
  placesOf,
  podsOf,
  REGIONS_FOLDER,
  regionsOf,
  templateVariables,
  type Place,
  type PodSpec,
} from './regions.ts'

const helm = kubernetesProgram('helm')
const validate = kubernetesProgram('kubectl-validate')
const skip = helm === undefined ? `helm ${NO_PROGRAM}` : false

const PLACES = placesOf(EXAMPLE)
const all = regionsOf(EXAMPLE, 'us-east').all
const MANIFESTS = globSync('**/*.yaml', { cwd: KUBERNETES_FOLDER }).filter((file) => !file.endsWith('values.yaml'))
/** What deploy/regions/README.md has operators make. */
const MADE = ['tidings', 'postgres', 'temporal', 'temporal-tls', 'configuration', 'temporal-setup', 'postgres-setup']

const byName = (a = '', b = ''): number => a.localeCompare(b)
const file = (path: string): string => join(KUBERNETES_FOLDER, path)
const valuesOf = ({ name }: Place): string[] => [
  ...['--values', file('values.yaml'), '--values', file(`${name}/values.yaml`)],
  ...['--set-file', `regions=${EXAMPLE}`],
]
const settings = (path: string, name: string): Readonly<Record<string, string>> | undefined =>
  manifestsOf(path).find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === name)?.data

test('there is a folder for each region, and for each active one at its peers', () => {
  const folders = globSync('*/values.yaml', { cwd: KUBERNETES_FOLDER }).map((path) => path.split('/')[0])
  assert.deepEqual(folders.sort(byName), PLACES.map(({ name }) => name).sort(byName))
})

for (const path of MANIFESTS) {
  test(`${path}: every object is valid for Kubernetes`, async (t) => {
    if (validate === undefined) return t.skip(`kubectl-validate ${NO_PROGRAM}`)
    assert.equal(await problemsOf(validate, readFileSync(file(path), 'utf8')), '')
  })

  test(`${path}: Pods have no privileges, a bounded memory, a pinned image and no secret in clear`, () => {
    for (const { name, spec } of podsOf(path)) {
      const { runAsNonRoot, seccompProfile } = spec.securityContext
      assert.deepEqual([runAsNonRoot, seccompProfile], [true, { type: 'RuntimeDefault' }], name)
      assert.equal(spec.automountServiceAccountToken, false, name)
      for (const container of [...(spec.initContainers ?? []), ...spec.containers]) {
        assert.deepEqual(container.securityContext, {
          allowPrivilegeEscalation: false,
          privileged: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        })
        assert.match(container.image, /^[a-z0-9/.-]+:v?\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?$/)
        assert.ok(container.resources.limits['memory'] !== undefined, name)
        for (const { name: variable, value } of container.env ?? []) if (/PASSWORD|PWD/.test(variable)) assert.equal(value, undefined)
      }
    }
  })

  test(`${path}: what Pods, Services and budgets refer to exists`, () => {
    const own = MANIFESTS.flatMap((one) => ofKind(manifestsOf(one), 'ConfigMap')).map(({ metadata }) => metadata.name)
    for (const { spec } of podsOf(path)) for (const name of referencesOf(spec)) assert.ok([...MADE, ...own].includes(name), name)
    for (const manifest of manifestsOf(path)) {
      const selector = selectorOf(manifest)
      if (selector === undefined) continue
      const pods = MANIFESTS.flatMap(podsOf)
      assert.ok(
        pods.some(({ labels }) => Object.entries(selector).every(([key, value]) => labels[key] === value)),
        manifest.metadata.name,
      )
    }
  })
}

function referencesOf({ containers, initContainers = [], volumes = [] }: PodSpec): readonly string[] {
  const inContainers = [...containers, ...initContainers].flatMap(({ env = [], envFrom = [] }) => [
    ...env.flatMap(({ valueFrom }) => valueFrom?.secretKeyRef?.name ?? []),
    ...envFrom.map(({ configMapRef }) => configMapRef.name),
  ])
  return [...inContainers, ...volumes.flatMap(({ configMap, secret }) => configMap?.name ?? secret?.secretName ?? [])]
}

function selectorOf({ kind, spec }: Manifest): Readonly<Record<string, string>> | undefined {
  const { selector } = (spec ?? {}) as { selector?: Record<string, string> & { matchLabels?: Record<string, string> } }
  return kind === 'Service' ? selector : selector?.matchLabels
}

test('images are those of the compose files', () => {
  const compose = globSync(['../docker-compose.temporal.yml', 'regions/compose/*.yaml'], { cwd: join(REGIONS_FOLDER, '..') })
    .map((path) => readFileSync(join(REGIONS_FOLDER, '..', path), 'utf8'))
    .join('')
  const images = MANIFESTS.flatMap(podsOf).flatMap(({ spec }) => spec.containers.map(({ image }) => image))
  assert.ok(images.length >= 6)
  for (const image of images) assert.ok(compose.includes(`image: ${image.replace('registry.example.com/', '')}\n`), image)
})

for (const place of PLACES) {
  const { name, region, peer } = place
  const own = regionsOf(EXAMPLE, region).own
  const here = regionsOf(EXAMPLE, peer ?? region).own

  test(`${name}: the chart takes its values, and every object is valid`, { skip }, async (t) => {
    const { code, stdout } = await runProgram(helm!, ['lint', '--strict', CHART, ...valuesOf(place)])
    assert.equal(code, 0, stdout)
    if (validate === undefined) return t.skip(`kubectl-validate ${NO_PROGRAM}`)
    assert.equal(await problemsOf(validate, await renderText(helm!, valuesOf(place))), '')
  })

  test(`${name}: processes are of the region, with the Temporal of where they are, and wait where that is another`, { skip }, async () => {
    const manifests = await render(helm!, valuesOf(place))
    const shared = ofKind(manifests, 'ConfigMap')[0]?.data ?? {}
    for (const { container } of deploymentsOf(manifests)) {
      const fromSecrets = container.env.filter(({ valueFrom }) => valueFrom !== undefined).map((one) => [one.name, exampleOf(one.name)])
      const environment: Record<string, string> = { ...shared, ...Object.fromEntries(fromSecrets), TIDINGS_REGIONS_FILE: EXAMPLE }
      for (const variable of Object.keys(environment)) assert.ok((VARIABLES as readonly string[]).includes(variable), variable)
      const config = readConfig(Object.fromEntries(Object.entries(environment).filter(([variable]) => !variable.endsWith('_PATH'))))
      assert.equal(config.region, region)
      assert.equal(config.temporalNamespace, `tidings-${region}`)
      assert.equal(config.configDatabaseUrls.length, 1)
      assert.equal(config.regionForwarding, true)
      assert.equal(config.temporalAddress, peer === undefined ? 'temporal:7233' : `temporal.tidings-${peer}.svc:7233`)
      assert.equal(`${shared['TEMPORAL_TLS_SERVER_NAME']}:7233`, here.temporalAddress)
      assert.equal(container.startupProbe!.failureThreshold > 1_000_000, peer !== undefined)
    }
    const [ingress] = ofKind(manifests, 'Ingress')
    const { rules } = ingress!.spec as { rules: readonly { host: string }[] }
    assert.equal(`https://${rules[0]!.host}`, own.apiUrl)
  })

  test(`${name}: its settings are those of a region, or of a standby`, () => {
    const path = `${name}/region.yaml`
    const kinds = manifestsOf(path).map(({ metadata }) => metadata.name)
    if (peer !== undefined) {
      assert.deepEqual(settings(path, 'postgres-standby'), { STANDBY_OF: `postgres.${domainOf(region)}`, STANDBY_NAME: peer })
      assert.deepEqual(kinds, ['postgres-standby'])
      return
    }
    const cluster = settings(path, 'temporal-cluster') ?? {}
    const { known, required } = templateVariables()
    const environment = environmentOf(podsOf('temporal.yaml').find((one) => one.name === 'temporal')!.spec)
    for (const variable of [...Object.keys(cluster), ...Object.keys(environment)]) assert.ok(known.includes(variable), variable)
    for (const variable of required) assert.ok(cluster[variable], variable)
    assert.equal(cluster['TEMPORAL_CLUSTER'], region)
    assert.equal(cluster['TEMPORAL_CLUSTER_ADDRESS'], own.temporalAddress)
    const others = all.filter((one) => one.peers.includes(region) || own.peers.includes(one.name))
    const hosts = (cluster['TEMPORAL_PEER_HOSTS'] ?? '').split(',').filter(Boolean)
    assert.deepEqual(hosts.sort(byName), others.map(({ temporalAddress }) => temporalAddress.split(':')[0]!).sort(byName))
  })
}

test(
  'a name leads to one release of a cluster, and the shared one to every active region and to where one is taken over',
  { skip },
  async () => {
    const taken = new Map<string, string[]>()
    for (const place of PLACES) {
      const [ingress] = ofKind(await render(helm!, valuesOf(place)), 'Ingress')
      const { rules, tls } = ingress!.spec as { rules: readonly { host: string }[]; tls: readonly { hosts: readonly string[] }[] }
      const hosts = rules.map(({ host }) => host)
      assert.deepEqual(tls[0]?.hosts, hosts)
      const cluster = place.peer ?? place.region
      taken.set(cluster, [...(taken.get(cluster) ?? []), ...hosts])
    }
    for (const [cluster, hosts] of taken) {
      assert.deepEqual(hosts, [...new Set(hosts)], cluster)
      assert.ok(hosts.includes('hooks.tidings.example'), cluster)
    }
  },
)

const domainOf = (region: string): string => new URL(all.find(({ name }) => name === region)!.apiUrl).hostname

const exampleOf = (variable: string): string =>
  variable.includes('DATABASE_URL') ? 'postgres://tidings:secret@postgres/tidings' : `filled-in-for-${variable}-0123456789abcdef`

test('each Temporal cluster has a version of its own, the one that it has in the compose files', () => {
  for (const { name } of all) {
    const version = settings(`${name}/region.yaml`, 'temporal-cluster')?.['TEMPORAL_CLUSTER_VERSION']
    assert.match(
      readFileSync(join(REGIONS_FOLDER, `compose/${name}.env`), 'utf8'),
      new RegExp(`^TEMPORAL_CLUSTER_VERSION=${version}$`, 'm'),
    )
  }
})

test('the configuration has three members, which name each other', () => {
  const members = PLACES.map(({ name }) => settings(`${name}/region.yaml`, 'configuration-member')).filter((one) => one !== undefined)
  assert.equal(members.length, 3)
  const names = members.map((member) => member['PATRONI_NAME']!)
  for (const member of members) {
    const domain = domainOf(member['PATRONI_NAME']!)
    assert.equal(member['ETCD_HOST'], `etcd.${domain}`)
    assert.equal(member['PATRONI_POSTGRESQL_CONNECT_ADDRESS'], `configuration.${domain}:5432`)
    assert.equal(member['PATRONI_RESTAPI_CONNECT_ADDRESS'], `configuration.${domain}:8008`)
    const etcds = names.map((name) => [name, `etcd.${domainOf(name)}`] as const)
    assert.equal(member['PATRONI_ETCD3_HOSTS'], etcds.map(([, host]) => `${host}:2379`).join(','))
    assert.equal(member['ETCD_CLUSTER'], etcds.map(([name, host]) => `${name}=http://${host}:2380`).join(','))
  }
})
