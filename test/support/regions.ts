import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePort } from '../../cli/embedded/ports.ts'
import { CONFIG_CHANNEL } from '../../storage/config-changes.ts'
import type { Pool } from '../../storage/pool.ts'
import { createScratch } from './scratch.ts'

export interface PlacedRegion {
  readonly port: number
  /** Of its API as the other regions call it; absent: its port's. */
  readonly apiUrl?: string
  readonly zone?: string
  readonly role?: 'active' | 'standby'
}

export interface RegionsOnDisk {
  /** Environment of the services of one region. */
  envOf(name: string): Record<string, string>
  remove(): void
}

export const freePorts = async (count: number): Promise<number[]> => {
  const ports = new Set<number>()
  while (ports.size < count) ports.add(await freePort())
  return [...ports]
}

/** A regions file for services of this machine. */
export function writeRegions(regions: Readonly<Record<string, PlacedRegion>>): RegionsOnDisk {
  const scratch = createScratch('regions')
  const file = join(scratch.path, 'regions.json')
  const described = Object.entries(regions).map(([name, { port, apiUrl, zone, role }]) => [
    name,
    { apiUrl: apiUrl ?? `http://127.0.0.1:${port}`, temporalAddress: '127.0.0.1:7233', zone: zone ?? null, role: role ?? 'active' },
  ])
  writeFileSync(file, JSON.stringify({ regions: Object.fromEntries(described) }))
  return {
    envOf: (name) => ({ TIDINGS_REGION: name, TIDINGS_REGIONS_FILE: file, TIDINGS_PORT: String(regions[name]!.port) }),
    remove: scratch.remove,
  }
}

const TABLES = ['application', 'endpoint', 'endpoint_secret']

/** What keeps the copies of configuration: rows of one database that another does not have are added to it, and told of there. */
export async function copyConfiguration(from: Pool, to: Pool): Promise<void> {
  for (const table of TABLES) {
    const { rows } = await from.query<{ row: object }>(`SELECT to_jsonb(t) AS row FROM ${table} t`)
    await to.query(
      `INSERT INTO ${table} OVERRIDING SYSTEM VALUE
       SELECT r.* FROM jsonb_array_elements($1::jsonb) AS one (row), jsonb_populate_record(NULL::${table}, one.row) r ON CONFLICT DO NOTHING`,
      [JSON.stringify(rows.map(({ row }) => row))],
    )
  }
  await to.query(`SELECT pg_notify($1, id) FROM application`, [CONFIG_CHANNEL])
}
