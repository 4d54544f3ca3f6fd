import { readOptions, runCommand } from '../cli/command.ts'
import { CommandFailure } from '../cli/failure.ts'
import { readConfig } from '../config/index.ts'
import { DEFAULT_RULES, type ScalingRules } from '../domain/scaling-rules.ts'
import { describeRun, nameOf, RESULTS_FOLDER, writeFiles } from './history.ts'
import { dayCurve, figuresOf, simulateFleet, type FleetFigures, type FleetOptions, type FleetPoint } from './simulated-fleet.ts'
import { drawSvg, type Lines } from '../cli/svg.ts'
import { markdown } from './table.ts'

const HELP = `npm run bench:scaling-simulation -- [options]

A day's traffic on a fleet that the autoscaler's own rules scale: discrete events, no service is started. Prints what it
came to, and writes JSON and a plot. The rules are those of the TIDINGS_AUTOSCALE_ variables.

  --hours 24          of the day; shorter ones squeeze the same curve
  --peak 0.85         the most that comes, of what the most workers can do
  --per-worker 100    deliveries a second of one worker
  --start-s 30        until a new worker takes work
  --drain-s 30        until one that is not needed is gone
  --results DIR       bench/results unless told; --no-results: nowhere`

/** Enough for the eye, and for a file that is not large. */
const PLOTTED = 600
const HOUR_MS = 3_600_000

await runCommand({ help: HELP, main })

function main(args: readonly string[]): Promise<number> {
  const text = { type: 'string' } as const
  const values = readOptions(args, {
    hours: { ...text, default: '24' },
    peak: { ...text, default: '0.85' },
    'per-worker': { ...text, default: '100' },
    'start-s': { ...text, default: '30' },
    'drain-s': { ...text, default: '30' },
    results: { ...text, default: RESULTS_FOLDER },
    'no-results': { type: 'boolean', default: false },
  })
  const { rules: given, min, max } = readConfig().autoscale
  const rules: ScalingRules = { ...given, min: min ?? DEFAULT_RULES.min, max: max ?? DEFAULT_RULES.max }
  const hours = numberOf('--hours', values.hours, 0.1, 168)
  const perWorker = numberOf('--per-worker', values['per-worker'], 0.1, 100_000)
  const options: FleetOptions = {
    rules,
    hours,
    perWorker,
    startMs: numberOf('--start-s', values['start-s'], 0, 3600) * 1000,
    drainMs: numberOf('--drain-s', values['drain-s'], 0, 3600) * 1000,
    load: dayCurve(rules.max * perWorker * numberOf('--peak', values.peak, 0.001, 10), hours),
  }
  const run = simulateFleet(options)
  const figures = figuresOf(run, options)
  process.stdout.write(`${tableOf(figures)}\n`)
  if (!values['no-results']) {
    const about = describeRun(new Date())
    const json = `${JSON.stringify({ ...about, options: { ...options, load: undefined }, figures }, undefined, 1)}\n`
    const path = writeFiles(values.results, `scaling-${nameOf(new Date(about.start))}`, { json, svg: plot(run.points, options) })
    process.stdout.write(`\nwritten to ${path}, and as a plot beside it\n`)
  }
  return Promise.resolve(0)
}

function numberOf(option: string, text: string, min: number, max: number): number {
  const value = Number(text)
  if (!(value >= min && value <= max)) throw new CommandFailure('usage', `${option} ${text}: must be a number from ${min} to ${max}`)
  return value
}

function tableOf(figures: FleetFigures): string {
  const rows: [string, number][] = [
    ['workers at most', figures.peakWorkers],
    ['times up', figures.ups],
    ['times down', figures.downs],
    ['changes of direction', figures.turns],
    ['of them within a cooldown', figures.flaps],
    ['hours over-provisioned', figures.overHours],
    ['hours under-provisioned', figures.underHours],
    ['backlog at most, deliveries', figures.backlogMax],
    ['wait at most, s', figures.waitMaxS],
    ['worker hours', figures.workerHours],
    ['worker hours of a fixed fleet', figures.fixedWorkerHours],
  ]
  return markdown([['figure', 'value'], ...rows.map(([name, value]) => [name, String(Math.round(value * 100) / 100)])])
}

function plot(points: readonly FleetPoint[], { perWorker, rules }: FleetOptions): string {
  const every = Math.max(1, Math.floor(points.length / PLOTTED))
  const shown = points.filter((_, i) => i % every === 0)
  const line = (name: string, value: (point: FleetPoint) => number) => ({
    name,
    points: shown.map((point) => [point.atMs / HOUR_MS, value(point)] as const),
  })
  const common = { xLabel: 'hours', logarithmic: false } as const
  const workers: Lines = {
    ...common,
    title: 'workers',
    lines: [line('run', ({ ready }) => ready), line('needed at full use', ({ load }) => load / perWorker)],
  }
  const use: Lines = {
    ...common,
    title: 'utilisation, %',
    lines: [line('utilisation', ({ load, ready, backlog }) => (backlog > 0 ? 100 : Math.min(100, (100 * load) / (ready * perWorker))))],
  }
  const backlog: Lines = { ...common, title: 'deliveries that wait', lines: [line('backlog', (point) => point.backlog)] }
  return drawSvg(`a simulated day, ${rules.min} to ${rules.max} workers of ${perWorker} deliveries a second`, [workers, use, backlog])
}
