import { globSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'
import { readRegions } from '../../config/regions.ts'
import type { Regions } from '../../domain/regions.ts'
import { composeProgram, NO_PROGRAM, runProgram } from '../support/kubernetes-programs.ts'
import type { Manifest } from './chart.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
export const REGIONS_FOLDER = join(ROOT, 'deploy/regions')
export const KUBERNETES_FOLDER = join(REGIONS_FOLDER, 'kubernetes')
export const COMPOSE_FOLDER = join(REGIONS_FOLDER, 'compose')
/** The regions that the files of deploy/regions are for. */
export const EXAMPLE = join(ROOT, 'config/regions.json')

/** Reads a regions file as one of its regions does. @throws with its problems */
export function regionsOf(path: string, own: string): Regions {
  const { regions, problems } = readRegions(path, own)
  if (regions === undefined) throw new Error(`${path}: ${problems.join(', ')}`)
  return regions
}

/** Processes of a region: those of its own, and those that wait for it at its peers. */
export interface Place {
  readonly name: string
  readonly region: string
  /** The peer that it is at; undefined: the region itself. */
  readonly peer: string | undefined
}

/** Every place that a regions file asks for: each region, and each active one at each of its peers. */
export function placesOf(path: string): readonly Place[] {
  const names = Object.keys((JSON.parse(readFileSync(path, 'utf8')) as { regions: object }).regions)
  return names.flatMap((region) => {
    const { role, peers } = regionsOf(path, region).own
    const waiting = role === 'active' ? peers.map((peer) => ({ name: `${region}-at-${peer}`, region, peer })) : []
    return [{ name: region, region, peer: undefined }, ...waiting]
  })
}

/** What the image of Temporal's server reads by itself, and the template does not. */
const OF_THE_IMAGE = ['DB', 'TEMPORAL_SERVER_CONFIG_FILE_PATH']
export const TEMPLATE = join(REGIONS_FOLDER, 'temporal/server.yaml.template')

/** Which variables the template takes, and which of them it must have. */
export function templateVariables(): { readonly known: readonly string[]; readonly required: readonly string[] } {
  const template = readFileSync(TEMPLATE, 'utf8')
  const all = (pattern: RegExp) => [...new Set([...template.matchAll(pattern)].map(([, name]) => name ?? ''))]
  return { known: [...all(/\benv "(\w+)"/g), ...OF_THE_IMAGE], required: all(/if not \(env "(\w+)"\)/g) }
}

export interface ComposeService {
  readonly image: string
  readonly build?: { readonly context: string }
  readonly command: readonly string[] | null
  readonly entrypoint: readonly string[] | null
  readonly environment?: Readonly<Record<string, string>>
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>
  readonly healthcheck?: { readonly test: readonly string[]; readonly disable?: boolean }
  readonly networks: Readonly<Record<string, { readonly aliases?: readonly string[] } | null>>
  readonly ports?: readonly { readonly host_ip: string; readonly published: string; readonly target: number }[]
  readonly volumes?: readonly { readonly type: string; readonly source: string; readonly target: string }[]
  readonly read_only?: boolean
  readonly cap_drop?: readonly string[]
}

export interface ComposeProject {
  readonly name: string
  readonly services: Readonly<Record<string, ComposeService>>
  readonly networks: Readonly<Record<string, { readonly name: string; readonly external?: boolean }>>
  readonly volumes?: Readonly<Record<string, unknown>>
}

const program = composeProgram()
export const noCompose = program === undefined ? `compose-config ${NO_PROGRAM}` : false

/** Of the example; each has to be filled in. */
export const SECRETS = [...readFileSync(join(COMPOSE_FOLDER, 'example.env'), 'utf8').matchAll(/^(\w+)=$/gm)]
  .map(([, name]) => name ?? '')
  .filter((name) => name !== 'TIDINGS_ALLOW_SUBNETS')

const filledIn = Object.fromEntries(SECRETS.map((name) => [name, `filled-in-for-${name}-0123456789abcdef`]))

/**
 * Resolves the compose files of a place as `docker compose` does.
 * @param secrets what secrets.env says; by default all of them
 * @throws with what is wrong
 */
export async function resolveCompose(place: string, secrets: Readonly<Record<string, string>> = filledIn): Promise<ComposeProject> {
  const common = place === 'one' ? [] : ['four.env']
  const options = { cwd: COMPOSE_FOLDER, env: secrets }
  const { code, stdout, stderr } = await runProgram(program ?? '', [...common, `${place}.env`], '', options)
  if (code !== 0) throw new Error(stderr)
  return JSON.parse(stdout) as ComposeProject
}

/** Places that there are files for. */
export const COMPOSE_PLACES = globSync('*.env', { cwd: COMPOSE_FOLDER })
  .map((file) => basename(file, '.env'))
  .filter((name) => !['example', 'four', 'secrets'].includes(name))
  .sort()

export interface PodContainer {
  readonly image: string
  readonly env?: readonly {
    readonly name: string
    readonly value?: string
    readonly valueFrom?: { readonly secretKeyRef?: { readonly name: string } }
  }[]
  readonly envFrom?: readonly { readonly configMapRef: { readonly name: string } }[]
  readonly securityContext: object
  readonly resources: { readonly limits: Readonly<Record<string, string>> }
}

export interface PodSpec {
  readonly automountServiceAccountToken: boolean
  readonly securityContext: { readonly runAsNonRoot: boolean; readonly seccompProfile: object }
  readonly containers: readonly PodContainer[]
  readonly initContainers?: readonly PodContainer[]
  readonly volumes?: readonly { readonly configMap?: { readonly name: string }; readonly secret?: { readonly secretName: string } }[]
}

/** Objects of a file below deploy/regions/kubernetes. */
export function manifestsOf(path: string): readonly Manifest[] {
  return parseAllDocuments(readFileSync(join(KUBERNETES_FOLDER, path), 'utf8')).map((document) => document.toJS() as Manifest)
}

/** Pods that a file starts, whatever kind it is that starts them. */
export function podsOf(
  path: string,
): readonly { readonly name: string; readonly labels: Readonly<Record<string, string>>; readonly spec: PodSpec }[] {
  return manifestsOf(path).flatMap(({ metadata, spec }) => {
    const { template } = (spec ?? {}) as { template?: { metadata: { labels: Record<string, string> }; spec: PodSpec } }
    return template === undefined ? [] : [{ name: metadata.name, labels: template.metadata.labels, spec: template.spec }]
  })
}

/** Variables of a Pod's container that its manifest sets; those from Secrets and fields are empty. */
export function environmentOf({ containers: [container] }: PodSpec): Readonly<Record<string, string>> {
  return Object.fromEntries((container?.env ?? []).map(({ name, value = '' }) => [name, value]))
}
