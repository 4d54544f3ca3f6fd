/** The file that names all regions. */
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { createRegions, crowdedZones, problemsOfRegions, REGION_NAME, type Region, type Regions } from '../domain/regions.ts'
import { flag, webUrl } from './formats.ts'

const name = z.string().regex(REGION_NAME, 'may have lower-case letters, digits and hyphens, 32 at most')

const region = z.strictObject({
  zone: name.nullable().default(null),
  role: z.enum(['active', 'standby']).default('active'),
  peers: z.array(name).default([]),
  apiUrl: webUrl({ credentials: false }),
  temporalAddress: z.string().regex(/^[^/\s]+:\d+$/, 'must be host:port'),
})

const regionsFile = z.strictObject({
  regions: z.record(name, region).refine((regions) => Object.keys(regions).length > 0, 'must name a region at least'),
  distancesMs: z.record(z.string(), z.number().min(0).max(10_000)).default({}),
})

export const REGION_VARIABLES = {
  TIDINGS_REGIONS_FILE: z.string().min(1).optional(),
  TIDINGS_REGION_FORWARDING: flag,
}

/** What a regions file says; `regions` is undefined where something is wrong with it: then there is a line for each problem. */
export interface RegionsFile {
  readonly regions: Regions | undefined
  readonly problems: readonly string[]
}

/**
 * Reads the regions file (docs/regions.md).
 * @param own the region that this process is in
 */
export function readRegions(path: string, own: string): RegionsFile {
  let content: unknown
  try {
    content = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : ''
    return { regions: undefined, problems: [code === '' ? 'is not JSON' : `cannot be read (${code})`] }
  }
  const parsed = regionsFile.safeParse(content)
  if (!parsed.success) {
    return {
      regions: undefined,
      problems: parsed.error.issues.map((issue) => [issue.path.join('.'), issue.message].filter(Boolean).join(': ')),
    }
  }
  const { regions, distancesMs } = parsed.data
  const all = Object.entries(regions).map(([key, { apiUrl, ...rest }]): Region => {
    return { name: key, ...rest, apiUrl: apiUrl.href.replace(/\/+$/, '') }
  })
  const problems = problemsOfRegions(all, distancesMs)
  if (!all.some((one) => one.name === own)) problems.push(`regions: there is no region ${JSON.stringify(own)}, which TIDINGS_REGION names`)
  return { regions: problems.length > 0 ? undefined : createRegions(all, own, distancesMs), problems }
}

/** The first region that a file names; undefined where it cannot be read. */
export function firstRegionOf(path: string): string | undefined {
  try {
    const { regions } = JSON.parse(readFileSync(path, 'utf8')) as { regions?: object }
    return Object.keys(regions ?? {})[0]
  } catch {
    return undefined
  }
}

/** What speaks against sharing configuration between these regions: in a zone it is kept in the database of one region. */
export function sharingProblems({ all }: Regions): string[] {
  return [...crowdedZones(all)].map(([zone, names]) => {
    const text = 'applications with a zone are configured in the database of one region, so with a shared configuration'
    return `CONFIG_DATABASE_URLS: ${text} the zone ${JSON.stringify(zone)} can have one active region, not ${names.join(', ')}`
  })
}
