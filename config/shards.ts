/** Databases that message data is spread over: `DATABASE_SHARD_URLS`, and which of them this process serves. */
import type { z } from 'zod'
import { LIMITS } from '../domain/limits.ts'
import { problemOf, type Shard } from '../domain/shards.ts'
import type { ArchiveConfig } from './archive.ts'
import { integer, postgresUrlList } from './formats.ts'

const DAY = /^\d{4}-\d\d-\d\d$/
const DAYS = ['from', 'until'] as const

export const SHARD_VARIABLES = {
  DATABASE_SHARD_URLS: postgresUrlList,
  TIDINGS_SHARD: integer(0, LIMITS.shardsMax - 1, 0),
} as const

/** A shard as this process reaches it. */
export interface ShardAddress extends Shard {
  readonly url: string
  /** Of its workflows. */
  readonly namespace: string
  /** Under which its copy of the configuration is known to the cluster, and its part of the archive. */
  readonly name: string
}

export interface Shards {
  /** The one whose messages this process delivers. */
  readonly own: ShardAddress
  readonly all: readonly ShardAddress[]
}

type Values = z.output<z.ZodObject<typeof SHARD_VARIABLES>>

interface Names {
  readonly region: string
  readonly namespace: string
}

/** @returns undefined where message data is in one database */
export function shardsConfig({ DATABASE_SHARD_URLS: urls, TIDINGS_SHARD: own }: Values, { region, namespace }: Names): Shards | undefined {
  if (urls.length === 0) return undefined
  const suffix = (number: number) => (number === 0 ? '' : `-shard-${number}`)
  const all = readShards(urls).map((shard) => ({
    ...shard,
    namespace: `${namespace}${suffix(shard.number)}`,
    name: `${region}${suffix(shard.number)}`,
  }))
  return { own: all[own]!, all }
}

interface OfShard {
  readonly databaseUrl: string | undefined
  readonly temporalNamespace: string
  readonly copyName: string
  readonly archive: ArchiveConfig | undefined
}

/** The configuration of a process that serves this shard. An archive belongs to one database: the others have folders in it. */
export function ofShard<T extends OfShard>(config: T, { number, url, namespace, name }: ShardAddress): T {
  const archive =
    config.archive === undefined || number === 0
      ? config.archive
      : { ...config.archive, url: `${config.archive.url.replace(/\/+$/, '')}/shard-${number}` }
  return { ...config, databaseUrl: url, temporalNamespace: namespace, copyName: name, archive }
}

function readShards(urls: readonly string[]): (Shard & { readonly url: string })[] {
  return urls.map((text, number) => {
    const url = new URL(text)
    const days = new URLSearchParams(url.hash.slice(1))
    url.hash = ''
    const at = (name: (typeof DAYS)[number], otherwise: number) => (days.has(name) ? Date.parse(days.get(name)!) : otherwise)
    return { number, url: url.href, fromMs: at('from', -Infinity), untilMs: at('until', Infinity) }
  })
}

interface Others extends Values {
  readonly DATABASE_URL?: string | undefined
  readonly CONFIG_DATABASE_URLS: readonly string[]
  readonly DATABASE_REPLICA_URLS: readonly string[]
  readonly TIDINGS_REGIONS_FILE?: string | undefined
}

/** What speaks against the variables together. */
export function shardProblems(value: Others): string[] {
  const { DATABASE_SHARD_URLS: urls, TIDINGS_SHARD: own } = value
  if (urls.length === 0) return own === 0 ? [] : ['TIDINGS_SHARD: goes with DATABASE_SHARD_URLS']
  const days = urls.map(problemOfDays).find((problem) => problem !== undefined)
  const list = days ?? problemOfList(urls)
  const problems = list === undefined ? [] : [`DATABASE_SHARD_URLS: ${list}`]
  if (own >= urls.length) problems.push(`TIDINGS_SHARD: DATABASE_SHARD_URLS has shards 0 to ${urls.length - 1}`)
  if (value.DATABASE_URL !== undefined) problems.push('DATABASE_URL: left out where DATABASE_SHARD_URLS is set, whose first is what it was')
  if (value.CONFIG_DATABASE_URLS.length === 0)
    problems.push('CONFIG_DATABASE_URLS: shards have one configuration, which is in none of them')
  if (value.DATABASE_REPLICA_URLS.length > 0) problems.push('DATABASE_REPLICA_URLS: not with DATABASE_SHARD_URLS')
  if (value.TIDINGS_REGIONS_FILE !== undefined) problems.push('TIDINGS_REGIONS_FILE: not with DATABASE_SHARD_URLS')
  return problems
}

function problemOfDays(text: string): string | undefined {
  const days = new URLSearchParams(new URL(text).hash.slice(1))
  const isDay = (day: string) => DAY.test(day) && !Number.isNaN(Date.parse(day))
  const wrong = [...days].find(([name, day]) => !DAYS.some((known) => known === name) || !isDay(day))
  return wrong === undefined ? undefined : `"#${wrong[0]}=${wrong[1]}": takes #from=2026-12-05 and #until=2026-12-05, joined by &`
}

function problemOfList(urls: readonly string[]): string | undefined {
  if (urls.length > LIMITS.shardsMax) return `takes ${LIMITS.shardsMax} at most`
  const shards = readShards(urls)
  const databases = shards.map(({ url }) => new URL(url)).map(({ host, pathname }) => `${host}${pathname}`)
  const twice = databases.find((database, i) => databases.indexOf(database) !== i)
  return twice === undefined ? problemOf(shards) : `${twice} is there twice`
}
