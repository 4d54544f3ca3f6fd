import { spawn, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { freePort } from '../../cli/embedded/ports.ts'
import { eventually } from './eventually.ts'
import { createScratch } from './scratch.ts'

/** One series of an answer. */
export interface Series {
  readonly metric: Readonly<Record<string, string>>
  /** Unix seconds and the value. */
  readonly value: readonly [number, string]
}

export interface TestPrometheus {
  readonly url: string
  /** @throws where the expression is wrong */
  query(expression: string): Promise<readonly Series[]>
  /** Every target has been scraped, and the last time without an error. */
  allUp(): Promise<boolean>
  stop(): Promise<void>
}

/** Whether Prometheus and its tool are on this machine. */
export function hasPrometheus(): boolean {
  return ['prometheus', 'promtool'].every((program) => spawnSync(program, ['--version']).status === 0)
}

/** Starts a Prometheus that scrapes often. */
export async function startPrometheus(scrapeConfigs: readonly object[], ruleFiles: readonly string[] = []): Promise<TestPrometheus> {
  const scratch = createScratch('prometheus')
  const config = join(scratch.path, 'prometheus.yml')
  const global = { scrape_interval: '500ms', scrape_timeout: '500ms', evaluation_interval: '500ms' }
  writeFileSync(config, stringify({ global, rule_files: ruleFiles, scrape_configs: scrapeConfigs }))
  const port = await freePort()
  const url = `http://127.0.0.1:${port}`
  const data = join(scratch.path, 'data')
  const args = [`--config.file=${config}`, `--storage.tsdb.path=${data}`, `--web.listen-address=127.0.0.1:${port}`, '--log.level=error']
  const child = spawn('prometheus', args, { stdio: ['ignore', 'ignore', 'inherit'] })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const stop = async () => {
    child.kill('SIGKILL')
    await ended
    scratch.remove()
  }
  const get = async <T>(path: string): Promise<T> => {
    const body = (await (await fetch(`${url}${path}`)).json()) as { data: T; error?: string }
    if (body.error !== undefined) throw new Error(`${path}: ${body.error}`)
    return body.data
  }
  try {
    await eventually(
      () =>
        fetch(`${url}/-/ready`).then(
          ({ ok }) => ok,
          () => false,
        ),
      (ready) => ready,
    )
  } catch (error) {
    await stop()
    throw error
  }
  return {
    url,
    query: async (expression) => (await get<{ result: readonly Series[] }>(`/api/v1/query?query=${encodeURIComponent(expression)}`)).result,
    async allUp() {
      const { activeTargets } = await get<{ activeTargets: readonly { health: string }[] }>('/api/v1/targets')
      return activeTargets.length > 0 && activeTargets.every(({ health }) => health === 'up')
    },
    stop,
  }
}
