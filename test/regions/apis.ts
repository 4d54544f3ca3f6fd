import { freePort } from '../../cli/embedded/ports.ts'
import type { Config } from '../../config/index.ts'
import { createRegions, type Region } from '../../domain/regions.ts'
import { startApi, type Harness } from '../api/harness.ts'

export interface RegionSpec {
  readonly zone?: string
  readonly role?: Region['role']
  /** Configuration over that of tests; absent: the region is named, and nobody answers there. */
  readonly config?: Partial<Config>
}

export interface RegionApis<Name extends string> {
  /** Starts one that nobody answered for. */
  start(name: Name, config: Partial<Config>): Promise<void>
  /** Of those that run. */
  readonly api: (name: Name) => Harness
  readonly urlOf: (name: Name) => string
  close(): Promise<void>
}

/** The APIs of regions, each on a database of its own, without workers. */
export async function startRegionApis<Name extends string>(specs: Readonly<Record<Name, RegionSpec>>): Promise<RegionApis<Name>> {
  const named = Object.entries<RegionSpec>(specs)
  const ports = await Promise.all(named.map(() => freePort()))
  const all = named.map(([name, { zone = null, role = 'active' }], i): Region => {
    return { name, zone, role, peers: [], apiUrl: `http://127.0.0.1:${ports[i]}`, temporalAddress: '127.0.0.1:1' }
  })
  const running = new Map<string, Harness>()
  const start = async (name: string, config: Partial<Config>): Promise<void> => {
    const regions = createRegions(all, name, {})
    const port = Number(new URL(regions.own.apiUrl).port)
    running.set(name, await startApi({ port, region: name, regions, regionForwarding: true, allowSubnets: ['127.0.0.0/8'], ...config }))
  }
  for (const [name, { config }] of named) if (config !== undefined) await start(name, config)
  return {
    start,
    api: (name) => running.get(name)!,
    urlOf: (name) => all.find((one) => one.name === name)!.apiUrl,
    close: async () => void (await Promise.all([...running.values()].map((api) => api.close()))),
  }
}
