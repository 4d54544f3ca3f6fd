import { readFigures, type FigureProblem, type FigureRule } from './figures.ts'
import { LIMITS } from './limits.ts'

/** The load that is planned for, in its first year. */
export interface CapacityInput {
  /** Endpoints. */
  readonly webhooks: number
  readonly eventsPerDay: number
  /** Endpoints that take one event, on average. */
  readonly fanOut: number
  readonly payloadBytes: number
  /** The busiest hour's rate over that of the day. */
  readonly peakFactor: number
  /** How long endpoints take to answer, on average. */
  readonly latencyMs: number
  /** Of 100 deliveries, those that need a second attempt. */
  readonly failurePercent: number
  /** How long messages and attempts are kept. */
  readonly retentionDays: number
  readonly years: number
  /** Requests that one worker has in flight (`TIDINGS_LANE_REQUESTS`). */
  readonly inFlight: number
  /** `TIDINGS_PARTITIONS`. */
  readonly partitions: number
  /** How long a write takes in the Temporal server's database. */
  readonly commitMs: number
  /** What the first year's load is multiplied by, for each year. */
  readonly growth: readonly number[]
}

type Figure = Exclude<keyof CapacityInput, 'growth'>

const YEARS_MAX = 10
const GROWTH: FigureRule = { min: 0.01, max: 10_000 }

const RULES: Readonly<Record<Figure, FigureRule>> = {
  webhooks: { min: 1, max: 1e10, whole: true },
  eventsPerDay: { min: 1, max: 1e13 },
  fanOut: { min: 0, max: LIMITS.endpointsPerApplication },
  payloadBytes: { min: 1, max: LIMITS.requestBodyMaxBytes },
  peakFactor: { min: 1, max: 100 },
  latencyMs: { min: 1, max: LIMITS.requestTimeoutMaxMs },
  failurePercent: { min: 0, max: 100 },
  retentionDays: { min: 1, max: 3650 },
  years: { min: 1, max: YEARS_MAX, whole: true },
  inFlight: { min: 1, max: 10_000, whole: true },
  partitions: { min: 1, max: 256, whole: true },
  commitMs: { min: 0.1, max: 1000 },
}

/** The load that the product was asked for, where it says, and what is usual where it does not. */
export const DEFAULT_CAPACITY_INPUT: Readonly<Record<Figure, number>> = {
  webhooks: 1e6,
  eventsPerDay: 1e8,
  fanOut: 25,
  payloadBytes: 1024,
  peakFactor: 3,
  latencyMs: 200,
  failurePercent: 2,
  retentionDays: 30,
  years: 3,
  inFlight: LIMITS.requestsInFlightPerLane,
  partitions: 4,
  commitMs: 5,
}

/**
 * @param figures numbers by name; what is undefined takes its default
 * @param growth multiples of the first year, one for each year; undefined: 1, 2, 3 and so on
 * @returns the input, or every problem
 */
export function readCapacityInput(
  figures: Readonly<Partial<Record<Figure, number | undefined>>>,
  growth: readonly number[] | undefined,
): { readonly input: CapacityInput } | { readonly problems: readonly FigureProblem[] } {
  const given = Object.fromEntries(Object.entries(figures).filter(([, value]) => value !== undefined))
  const read = readFigures(RULES, { ...DEFAULT_CAPACITY_INPUT, ...given })
  if ('problems' in read) return read
  const { years } = read.values
  const multiples = growth ?? Array.from({ length: years }, (_, i) => i + 1)
  const problems: FigureProblem[] = multiples.flatMap((one) => {
    const checked = readFigures({ growth: GROWTH }, { growth: one })
    return 'problems' in checked ? checked.problems : []
  })
  if (multiples.length !== years)
    problems.push({ name: 'growth', text: `must have a number for each of the ${years} years, not ${multiples.length}` })
  return problems.length > 0 ? { problems } : { input: { ...read.values, growth: multiples } }
}
