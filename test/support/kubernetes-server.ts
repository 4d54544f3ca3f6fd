import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { findOperation, problemsOf, type OpenApi, type Schema } from '../reference/openapi-3.ts'
import { makeCertificate } from './certificates.ts'
import { createScratch } from './scratch.ts'

const OPENAPI = JSON.parse(readFileSync(new URL('../reference/kubernetes-scale.json', import.meta.url), 'utf8')) as OpenApi
const schemaOf = (name: string) => OPENAPI.components.schemas[name]!
const SCALE = schemaOf('io.k8s.api.autoscaling.v1.Scale')
const STATUS = schemaOf('io.k8s.apimachinery.pkg.apis.meta.v1.Status')

/** A rule of a Role. */
export interface Rule {
  readonly apiGroups: readonly string[]
  readonly resources: readonly string[]
  readonly resourceNames: readonly string[]
  readonly verbs: readonly string[]
}

export interface StoredDeployment {
  readonly metadata: { readonly name: string; readonly namespace: string; resourceVersion: string } & Readonly<Record<string, unknown>>
  readonly spec: { replicas?: number } & Readonly<Record<string, unknown>>
  status: { replicas?: number; readyReplicas?: number }
}

export interface KubernetesServer {
  readonly address: string
  readonly deployments: readonly StoredDeployment[]
  /** What in requests and answers was not as the published OpenAPI of Kubernetes has it. */
  readonly violations: readonly string[]
  readonly requests: () => number
  /** So many of the next patches are answered with 409, as when others change the object. */
  conflicts(count: number): void
  /** Writes a kubeconfig file. @returns its path */
  kubeconfig(token: string, namespace: string): string
  stop(): Promise<void>
}

/**
 * Stands in for the API server of Kubernetes, which takes too long to build: the status and scale of Deployments over HTTPS,
 * for tokens with the rights of a Role. Every request, and every answer of its own, is held against the published OpenAPI.
 */
export async function startKubernetesServer(options: {
  readonly deployments: readonly StoredDeployment[]
  readonly rights: Readonly<Record<string, { readonly namespace: string; readonly rules: readonly Rule[] }>>
}): Promise<KubernetesServer> {
  const scratch = createScratch('kubernetes')
  const authority = makeCertificate('authority', { isAuthority: true })
  const own = makeCertificate('kubernetes', { issuer: authority, hosts: ['127.0.0.1'] })
  const state = { ...options, violations: [] as string[], conflicts: 0, requests: 0 }
  const server = createServer({ cert: own.certificate, key: own.privateKey }, (request, response) => void serve(state, request, response))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = `https://127.0.0.1:${(server.address() as AddressInfo).port}`
  return {
    address,
    deployments: options.deployments,
    violations: state.violations,
    requests: () => state.requests,
    conflicts: (count) => void (state.conflicts = count),
    kubeconfig(token, namespace) {
      const path = join(scratch.path, `${token}-${namespace}`)
      writeFileSync(path, JSON.stringify(kubeconfigOf(address, token, namespace, authority.certificate)))
      return path
    },
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      scratch.remove()
    },
  }
}

/** A kubeconfig with one context. */
export function kubeconfigOf(server: string, token: string, namespace: string, authority?: string): object {
  const trust = authority === undefined ? {} : { 'certificate-authority-data': Buffer.from(authority).toString('base64') }
  return {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'test',
    clusters: [{ name: 'test', cluster: { server, ...trust } }],
    users: [{ name: 'test', user: { token } }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test', namespace } }],
  }
}

type State = Parameters<typeof startKubernetesServer>[0] & { violations: string[]; conflicts: number; requests: number }

async function serve(state: State, request: IncomingMessage, response: ServerResponse): Promise<void> {
  state.requests++
  const { method = '', url = '' } = request
  const { pathname, searchParams } = new URL(url, 'https://kubernetes')
  const found = findOperation(OPENAPI, method, pathname)
  const note = (problems: readonly string[]) => state.violations.push(...problems.map((one) => `${method} ${url}: ${one}`))
  const answer = (code: number, body: object, schema: Schema) => {
    note(problemsOf(OPENAPI, schema, body))
    response.writeHead(code, { 'content-type': 'application/json' }).end(JSON.stringify(body))
  }
  const refuse = (code: number, reason: string, message: string) =>
    answer(code, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code }, STATUS)
  if (found === undefined)
    return void (note(['no such operation']), refuse(404, 'NotFound', 'the server could not find the requested resource'))
  note([...searchParams.keys()].filter((name) => !found.query.includes(name)).map((name) => `no parameter ${name}`))
  const { name = '', namespace = '' } = found.names
  const resource = `deployments/${found.template.split('/').at(-1)}`
  const rights = state.rights[request.headers.authorization?.replace('Bearer ', '') ?? '']
  if (rights === undefined) return refuse(401, 'Unauthorized', 'Unauthorized')
  if (rights.namespace !== namespace || !rights.rules.some((rule) => allows(rule, method.toLowerCase(), resource, name))) {
    const what = `resource "${resource}" in API group "apps" in the namespace "${namespace}"`
    return refuse(403, 'Forbidden', `deployments.apps "${name}" is forbidden: User "test" cannot ${method.toLowerCase()} ${what}`)
  }
  const one = state.deployments.find(({ metadata }) => metadata.name === name && metadata.namespace === namespace)
  if (one === undefined) return refuse(404, 'NotFound', `deployments.apps "${name}" not found`)
  if (method === 'GET') return answer(200, one, schemaOf('io.k8s.api.apps.v1.Deployment'))
  const type = request.headers['content-type'] ?? ''
  if (!(type in (found.operation.requestBody?.content ?? {}))) note([`no content type ${type}`])
  const patched = merge(scaleOf(one), JSON.parse(await text(request))) as ReturnType<typeof scaleOf>
  if (type !== 'application/merge-patch+json') return refuse(415, 'UnsupportedMediaType', `${type} is not served here`)
  const problems = problemsOf(OPENAPI, SCALE, patched)
  if (problems.length > 0) return void (note(problems), refuse(422, 'Invalid', problems.join(', ')))
  if (state.conflicts > 0) {
    state.conflicts--
    return refuse(409, 'Conflict', `Operation cannot be fulfilled on deployments.apps "${name}": the object has been modified`)
  }
  one.spec.replicas = patched.spec.replicas
  one.metadata.resourceVersion = String(Number(one.metadata.resourceVersion) + 1)
  return answer(200, scaleOf(one), SCALE)
}

const allows = (rule: Rule, verb: string, resource: string, name: string): boolean =>
  rule.apiGroups.includes('apps') && rule.verbs.includes(verb) && rule.resources.includes(resource) && rule.resourceNames.includes(name)

function scaleOf({ metadata: { name, namespace, resourceVersion }, spec, status }: StoredDeployment) {
  return {
    kind: 'Scale',
    apiVersion: 'autoscaling/v1',
    metadata: { name, namespace, resourceVersion },
    spec: { replicas: spec.replicas ?? 1 },
    status: { replicas: status.replicas ?? 0 },
  }
}

/** JSON Merge Patch (RFC 7396). */
function merge(value: unknown, patch: unknown): unknown {
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch
  const merged: Record<string, unknown> = typeof value === 'object' && value !== null && !Array.isArray(value) ? { ...value } : {}
  for (const [name, part] of Object.entries(patch)) {
    if (part === null) delete merged[name]
    else merged[name] = merge(merged[name], part)
  }
  return merged
}
