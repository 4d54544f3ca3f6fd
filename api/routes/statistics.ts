import { LIMITS } from '../../domain/limits.ts'
import { ceilTo, cut, floorTo, GRAIN_MS, GRAINS, type Grain, type Span } from '../../domain/rollups.ts'
import type { Application } from '../../storage/applications.ts'
import { addPoints, countByStatus, readPoints, readRolledUp, type Point } from '../../storage/statistics.ts'
import { ApiError } from '../errors.ts'
import { moment } from '../parameters.ts'
import { readChoice, readTime } from '../query.ts'
import { fromHistory } from '../history.ts'
import type { Call, Reply, RouteTable } from '../routing.ts'
import { endpointStats, showHistory, statisticsHistory } from '../schemas/statistics.ts'
import { applicationOf, endpointOf } from '../scope.ts'
import { mergeSums, type Merge } from '../shards.ts'

const DEFAULT_DAYS = 28
/** Ids have units of so many milliseconds: an attempt at the very end of the range counts. */
const ID_UNIT_MS = 4

// Attempts are counted as they are stored: what is pending or on its way has none yet.
async function stats(call: Call): Promise<Reply> {
  const { deps, caller, path, query } = call
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  const endpoint = await endpointOf(deps.pool, application, path['endpoint_id'])
  const nowMs = Date.now()
  const untilMs = readTime(query, 'until') ?? nowMs
  // A whole hour, of which there is a rollup: nobody has asked for the millisecond.
  const sinceMs = readTime(query, 'since') ?? floorTo('hour', untilMs - DEFAULT_DAYS * GRAIN_MS.day)
  if (sinceMs > untilMs) throw new ApiError('invalid_range', 'until must be after since')
  const given = query.get('since') !== null
  if (given && untilMs - sinceMs > LIMITS.statsMaxMs) throw new ApiError('invalid_range', 'Statistics reach over at most 28 days')
  const span = { fromMs: sinceMs, untilMs: untilMs + ID_UNIT_MS }
  const counts = await fromHistory(call, application, (db) => countByStatus(db, endpoint.id, span, nowMs))
  return { status: 200, json: { ...counts, pending: 0, sending: 0, canceled: 0 } }
}

/** Points that are told without `since`. */
const POINTS: Readonly<Record<Grain, number>> = { minute: 60, hour: 24, day: 28 }

/** @throws {ApiError} 400 for a range that ends before it begins, or has more points than may be asked for at once */
function readRange(query: URLSearchParams, nowMs: number): { grain: Grain; span: Span } {
  const grain = readChoice(query, 'grain', GRAINS) ?? 'hour'
  const untilMs = ceilTo(grain, readTime(query, 'until') ?? nowMs)
  const fromMs = floorTo(grain, readTime(query, 'since') ?? untilMs - POINTS[grain] * GRAIN_MS[grain])
  if (fromMs > untilMs) throw new ApiError('invalid_range', 'until must be after since')
  if (untilMs - fromMs > LIMITS.statsPointsMax * GRAIN_MS[grain])
    throw new ApiError('invalid_range', `At most ${LIMITS.statsPointsMax} points can be asked for at once`)
  return { grain, span: { fromMs, untilMs } }
}

async function historyOf(call: Call, application: Application, ofId: string): Promise<Reply> {
  const nowMs = Date.now()
  const { grain, span } = readRange(call.query, nowMs)
  return fromHistory(call, application, async (db) => {
    const rolledUp = await readRolledUp(db)
    const points = await readPoints(db, ofId, cut(span, rolledUp, grain, nowMs), grain)
    const untilMs = Math.max(span.fromMs, Math.min(span.untilMs, rolledUp.throughMs))
    return showPoints({ grain, span: { ...span, untilMs }, points })
  })
}

interface History {
  readonly grain: Grain
  readonly span: Span
  readonly points: readonly Point[]
}

function showPoints(made: History): Reply {
  return { status: 200, json: showHistory(made.grain, made.span, made.points), parts: made }
}

/** What was attempted in several databases in the same time is one point. It reaches as far as the one that is least far. */
const mergeHistories: Merge = (replies) => {
  const all = replies.map(({ parts }) => parts as History)
  const { grain, span } = all[0]!
  const untilMs = Math.min(...all.map((one) => one.span.untilMs))
  const points = all.flatMap((one) => one.points).filter(({ atMs }) => atMs < untilMs)
  const byTime = Map.groupBy(points, ({ atMs }) => atMs)
  const times = [...byTime.keys()].sort((a, b) => a - b)
  return showPoints({ grain, span: { ...span, untilMs }, points: times.map((ms) => byTime.get(ms)!.reduce(addPoints)) })
}

async function endpointHistory(call: Call): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  return historyOf(call, application, (await endpointOf(deps.pool, application, path['endpoint_id'])).id)
}

async function applicationHistory(call: Call): Promise<Reply> {
  const { deps, caller, path } = call
  const application = await applicationOf(deps.pool, caller, path['app_id'])
  return historyOf(call, application, application.id)
}

const history = {
  query: {
    grain: { description: 'What one point covers, in UTC', schema: { type: 'string', enum: GRAINS, default: 'hour' } },
    since: moment('Where the first point begins; rounded down to the grain'),
    until: moment('Where the last point ends; rounded up to the grain'),
  },
  replies: { 200: statisticsHistory },
  access: 'application',
  across: { all: mergeHistories },
} as const

export const statisticsRoutes: RouteTable = {
  '/app/{app_id}/endpoint/{endpoint_id}/stats': {
    get: {
      operationId: 'v1.endpoint.get-stats',
      summary: 'Endpoint Stats',
      tag: 'Endpoint',
      description: 'Counts of attempts by status over 28 days at most.',
      query: {
        since: moment('Filter the range to data starting from this date'),
        until: moment('Filter the range to data ending by this date'),
      },
      replies: { 200: endpointStats },
      access: 'application',
      across: { all: mergeSums },
      handle: stats,
    },
  },
  '/app/{app_id}/endpoint/{endpoint_id}/stats/history': {
    get: {
      ...history,
      operationId: 'v1.endpoint.get-stats-history',
      summary: 'Endpoint Stats History',
      tag: 'Endpoint',
      description: 'Attempts of the endpoint in this region by minute (of 7 days), hour (90 days) or day (400 days), about a minute old.',
      handle: endpointHistory,
    },
  },
  '/app/{app_id}/stats/history': {
    get: {
      ...history,
      operationId: 'v1.application.get-stats-history',
      summary: 'Application Stats History',
      tag: 'Application',
      description: 'Attempts of all endpoints in this region by minute (of 7 days), hour (90 days) or day (400 days), about a minute old.',
      handle: applicationHistory,
    },
  },
}
