import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'
import { runProgram } from '../support/kubernetes-programs.ts'
import { createScratch } from '../support/scratch.ts'

const HELM_FOLDER = fileURLToPath(new URL('../../deploy/helm/', import.meta.url))
export const CHART = join(HELM_FOLDER, 'tidings')
const KEDA_SCHEMAS = fileURLToPath(new URL('keda/', import.meta.url))

/** The values that the documentation shows, and none. */
export const VALUE_SETS = ['', 'autoscaler', 'keda', 'everything'] as const

export const valuesOf = (set: string): string[] => (set === '' ? [] : ['--values', join(HELM_FOLDER, 'values', `${set}.yaml`)])

export interface Container {
  readonly name: string
  readonly image: string
  readonly command: readonly string[]
  readonly args: readonly string[]
  readonly envFrom: readonly { readonly configMapRef: { readonly name: string } }[]
  readonly env: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: { readonly secretKeyRef: object } }[]
  readonly ports?: readonly { readonly name: string; readonly containerPort: number }[]
  readonly livenessProbe?: Probe
  readonly readinessProbe?: Probe
  readonly startupProbe?: Probe
  readonly lifecycle?: { readonly preStop: { readonly sleep: { readonly seconds: number } } }
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[]
  readonly securityContext: object
  readonly resources: { readonly requests: Readonly<Record<string, string>>; readonly limits: Readonly<Record<string, string>> }
}

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string }
  readonly periodSeconds: number
  readonly failureThreshold: number
}

/** What the tests read of an object; each kind has its own part of it. */
export interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>> }
  readonly data?: Readonly<Record<string, string>>
  readonly rules?: readonly object[]
  readonly spec: unknown
}

/** Renders the chart. @throws with what helm said */
export async function renderText(helm: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await runProgram(helm, ['template', 'hooks', CHART, '--namespace', 'webhooks', ...args])
  if (code !== 0) throw new Error(stderr)
  return stdout
}

export async function render(helm: string, args: readonly string[]): Promise<readonly Manifest[]> {
  const text = await renderText(helm, args)
  return parseAllDocuments(text).flatMap((document) => (document.contents === null ? [] : [document.toJS() as Manifest]))
}

export const ofKind = (manifests: readonly Manifest[], kind: string): readonly Manifest[] => manifests.filter((one) => one.kind === kind)

export interface Deployment {
  readonly name: string
  readonly component: string
  readonly replicas: number | undefined
  readonly labels: Readonly<Record<string, string>>
  readonly pod: {
    readonly serviceAccountName: string
    readonly automountServiceAccountToken: boolean
    readonly terminationGracePeriodSeconds: number
    readonly securityContext: object
    readonly topologySpreadConstraints: readonly object[]
    readonly volumes: readonly { readonly name: string; readonly configMap?: object }[]
  }
  readonly container: Container
}

interface DeploymentSpec {
  readonly replicas?: number
  readonly selector: { readonly matchLabels: Readonly<Record<string, string>> }
  readonly template: {
    readonly metadata: { readonly labels: Readonly<Record<string, string>> }
    readonly spec: Deployment['pod'] & { readonly containers: readonly Container[] }
  }
}

export function deploymentsOf(manifests: readonly Manifest[]): readonly Deployment[] {
  return ofKind(manifests, 'Deployment').map(({ metadata, spec }) => {
    const { replicas, template } = spec as DeploymentSpec
    const component = metadata.labels['app.kubernetes.io/component'] ?? ''
    const container = template.spec.containers[0]!
    return { name: metadata.name, component, replicas, labels: template.metadata.labels, pod: template.spec, container }
  })
}

/** What `kubectl-validate` finds in the objects, by the schemas of Kubernetes 1.30 and of KEDA; empty where nothing. */
export async function problemsOf(kubectlValidate: string, text: string): Promise<string> {
  const scratch = createScratch('chart')
  try {
    const file = join(scratch.path, 'objects.yaml')
    writeFileSync(file, text)
    const args = [file, '--local-crds', KEDA_SCHEMAS, '--version', '1.30', '--output', 'json']
    const { code, stdout, stderr } = await runProgram(kubectlValidate, args)
    return code === 0 ? '' : stdout + stderr
  } finally {
    scratch.remove()
  }
}
