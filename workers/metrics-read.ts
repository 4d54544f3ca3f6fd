import { Counter, Gauge, type Registry } from 'prom-client'

type Labels = Readonly<Record<string, string>>
/** Adds one series. */
export type Add = (labels: Labels, value: number) => void

export interface Described {
  readonly name: string
  readonly help: string
  readonly labels?: readonly string[]
}

/**
 * A counter whose values others keep, as plain numbers: read when Prometheus asks, so that nothing is hashed or looked up where
 * something is counted.
 */
export function readCounter(registry: Registry, { name, help, labels = [] }: Described, read: (add: Add) => void): void {
  new Counter({
    name,
    help,
    labelNames: [...labels],
    registers: [registry],
    collect() {
      this.reset()
      read((of, value) => this.inc(of, value))
    },
  })
}

/** As `readCounter`; what is not added has no series. */
export function readGauge(registry: Registry, { name, help, labels = [] }: Described, read: (add: Add) => void | Promise<void>): void {
  new Gauge({
    name,
    help,
    labelNames: [...labels],
    registers: [registry],
    async collect() {
      const series: [Labels, number][] = []
      await read((of, value) => series.push([of, value]))
      this.reset()
      for (const [of, value] of series) this.set(of, value)
    },
  })
}
