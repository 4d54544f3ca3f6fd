import { z } from 'zod'
import { percentileMs } from '../../domain/health.ts'
import { GRAINS, type Grain, type Span } from '../../domain/rollups.ts'
import type { Point } from '../../storage/statistics.ts'
import { shownInteger, shownTime } from './replies.ts'

const count = shownInteger('int64')

export const endpointStats = z
  .object({ success: count, fail: count, pending: count, sending: count, canceled: count })
  .meta({ id: 'EndpointStats' })

const durationMs = z.number().min(0)

export const statisticsHistory = z
  .object({
    grain: z.enum(GRAINS),
    since: shownTime,
    until: shownTime.meta({
      description: 'Where the last point ends, which may be before what was asked for: later attempts are not counted yet',
    }),
    data: z.array(
      z.object({
        at: shownTime.meta({ description: 'Where the point begins; points without an attempt or a dead letter are absent' }),
        attempts: count,
        delivered: count,
        failed: count.meta({ description: 'Attempts that did not deliver and after which none follows' }),
        deadLetters: count,
        responseMs: z.object({ mean: durationMs, p50: durationMs, p95: durationMs, p99: durationMs }).nullable().meta({
          description: 'Of all attempts, also of those without an answer; percentiles as exact as the classes that they are counted in',
        }),
      }),
    ),
  })
  .meta({ id: 'StatisticsHistory' })

export function showHistory(grain: Grain, span: Span, points: readonly Point[]): z.output<typeof statisticsHistory> {
  const time = (ms: number) => new Date(ms).toISOString()
  return {
    grain,
    since: time(span.fromMs),
    until: time(span.untilMs),
    data: points.map((point) => ({ at: time(point.atMs), ...showPoint(point) })),
  }
}

function showPoint({ attempts, delivered, failed, deadLetters, durationMs: totalMs, durations }: Point) {
  const percentile = (share: number) => Math.round(percentileMs(durations, share) ?? 0)
  const responseMs =
    attempts === 0 ? null : { mean: Math.round(totalMs / attempts), p50: percentile(0.5), p95: percentile(0.95), p99: percentile(0.99) }
  return { attempts, delivered, failed, deadLetters, responseMs }
}
