import { createHash } from 'node:crypto'
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, trace, TraceFlags, type Context, type Span } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  ParentBasedSampler,
  RandomIdGenerator,
  TraceIdRatioBasedSampler,
} from '@opentelemetry/sdk-trace-base'
import type { AttemptInput, WatchedAttempt } from '../activities/attempt.ts'
import type { Intake } from '../api/dependencies.ts'
import type { Config } from '../config/index.ts'
import type { NewMessage } from '../domain/message.ts'
import { MAILBOX_PREFIX } from '../domain/names.ts'
import { readTraceparent, writeTraceparent } from '../domain/trace.ts'
import { readMessages, type MessageCache } from '../storage/messages.ts'
import type { Pool } from '../storage/pool.ts'
import type { StartFanOut } from './start-fan-out.ts'

/**
 * Spans of what this process does: `publish`, whose context is stored with the message; below it `fan-out`; below that each
 * `attempt`, which the receiver is told of. The id of a fan-out's span follows from the group and the message, so that
 * attempts in other processes know it without being told. What was published without tracing has no spans.
 */
export interface Tracing {
  /** Begins a trace for each message, or continues its publisher's. */
  publishing<T extends Intake>(intake: T): T
  /** Tells how long the start of a fan-out took, for each of its messages. */
  fanningOut(start: StartFanOut): StartFanOut
  /** @returns undefined where the message is not traced */
  attempt(input: AttemptInput, startedAtMs: number): (WatchedAttempt & { readonly traceId: string }) | undefined
  /** Sends what is left. */
  stop(): Promise<void>
}

const SERVICE_NAME = 'tidings'
const STOP_WITHIN_MS = 2000

export function createTracing(
  { endpoint, ratio }: NonNullable<Config['tracing']>,
  { pool, messages }: { pool: Pool; messages: MessageCache },
): Tracing {
  const ids = createIds()
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ 'service.name': SERVICE_NAME, 'process.pid': process.pid }),
    sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(ratio) }),
    idGenerator: ids,
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter({ url: `${endpoint}/v1/traces` }))],
  })
  const tracer = provider.getTracer(SERVICE_NAME)
  const begin = (name: string, kind: SpanKind, parent: Context, startTime: number, attributes: Record<string, string | number>): Span =>
    tracer.startSpan(name, { kind, startTime, attributes }, parent)

  const publish = async <T>(published: readonly NewMessage[], accept: (traced: readonly NewMessage[]) => Promise<T>): Promise<T> => {
    const startedAtMs = Date.now()
    const spans = published.map((message) =>
      begin('publish', SpanKind.PRODUCER, contextOf(message.traceparent), startedAtMs, attributesOf(message)),
    )
    try {
      return await accept(published.map((message, i) => ({ ...message, traceparent: traceparentOf(spans[i]!) })))
    } catch (error) {
      for (const span of spans) span.setStatus({ code: SpanStatusCode.ERROR, message: error instanceof Error ? error.name : '' })
      throw error
    } finally {
      for (const span of spans) span.end()
    }
  }
  return {
    publishing: (intake) => ({
      ...intake,
      accept: (message) => publish([message], ([traced]) => intake.accept(traced!)),
      acceptAll: (all) => publish(all, (traced) => intake.acceptAll(traced)),
    }),
    fanningOut: (start) => async (groupId, rows, isNew) => {
      const startedAtMs = Date.now()
      const started = await start(groupId, rows, isNew)
      if (started !== 'started') return started
      const endedAtMs = Date.now()
      const found = await readMessages(pool, messages, [...new Set(rows.map((row) => row.messageId))]).catch(() => new Map<string, never>())
      for (const [id, message] of found) {
        if (message.traceparent === undefined) continue
        ids.nextSpanId = fanOutSpanId(groupId, id)
        const attributes = { ...attributesOf(message), 'tidings.group.id': groupId, 'tidings.group.messages': rows.length }
        begin('fan-out', SpanKind.INTERNAL, contextOf(message.traceparent), startedAtMs, attributes).end(endedAtMs)
      }
      return started
    },
    attempt(input, startedAtMs) {
      const parent = parentOf(input)
      if (parent === undefined) return undefined
      const span = begin('attempt', SpanKind.CLIENT, contextOf(parent), startedAtMs, attemptAttributes(input))
      return watchedBy(span, startedAtMs)
    },
    async stop() {
      const late = new Promise((resolve) => setTimeout(resolve, STOP_WITHIN_MS).unref())
      await Promise.race([provider.shutdown().catch(() => undefined), late])
    },
  }
}

/** Random ids, but for a span whose id is known beforehand. */
function createIds() {
  const random = new RandomIdGenerator()
  return {
    nextSpanId: undefined as string | undefined,
    generateTraceId: () => random.generateTraceId(),
    generateSpanId() {
      const known = this.nextSpanId
      this.nextSpanId = undefined
      return known ?? random.generateSpanId()
    },
  }
}

function watchedBy(span: Span, startedAtMs: number): WatchedAttempt & { readonly traceId: string } {
  return {
    headers: { traceparent: traceparentOf(span) },
    traceId: span.spanContext().traceId,
    ended({ outcome, change, attemptId }) {
      span.setAttribute('tidings.attempt.outcome', outcome.kind)
      if (attemptId !== undefined) span.setAttribute('tidings.attempt.id', attemptId)
      if (change !== undefined) span.setAttribute('tidings.delivery.state', change.state)
      if (outcome.statusCode > 0) span.setAttribute('http.response.status_code', outcome.statusCode)
      if (outcome.kind !== 'delivered') span.setStatus({ code: SpanStatusCode.ERROR })
      span.end(startedAtMs + outcome.durationMs)
    },
  }
}

/** The fan-out's span, where there was a fan-out of this message. A batch continues the publish of its first event. */
function parentOf({ message, groupId, batch }: AttemptInput): string | undefined {
  const published = message.traceparent === undefined ? undefined : readTraceparent(message.traceparent)
  if (published === undefined || batch !== undefined || groupId.startsWith(MAILBOX_PREFIX)) return message.traceparent
  return writeTraceparent({ ...published, spanId: fanOutSpanId(groupId, message.id) })
}

function fanOutSpanId(groupId: string, messageId: string): string {
  return createHash('sha256').update(`fan-out ${groupId} ${messageId}`).digest('hex').slice(0, 16)
}

function contextOf(traceparent: string | undefined): Context {
  const read = traceparent === undefined ? undefined : readTraceparent(traceparent)
  if (read === undefined) return ROOT_CONTEXT
  const { traceId, spanId, sampled } = read
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId,
    spanId,
    traceFlags: sampled ? TraceFlags.SAMPLED : TraceFlags.NONE,
    isRemote: true,
  })
}

function traceparentOf(span: Span): string {
  const { traceId, spanId, traceFlags } = span.spanContext()
  return writeTraceparent({ traceId, spanId, sampled: (traceFlags & TraceFlags.SAMPLED) !== 0 })
}

function attributesOf({ id, appId, eventType }: Pick<NewMessage, 'id' | 'appId' | 'eventType'>): Record<string, string> {
  return { 'messaging.system': SERVICE_NAME, 'messaging.message.id': id, 'tidings.app.id': appId, 'tidings.event.type': eventType }
}

function attemptAttributes({ message, endpoint, lane, groupId, attemptsBefore }: AttemptInput): Record<string, string | number> {
  return {
    ...attributesOf(message),
    'http.request.method': 'POST',
    'server.address': endpoint.host,
    'http.request.resend_count': attemptsBefore,
    'tidings.endpoint.id': endpoint.id,
    'tidings.lane': lane,
    'tidings.group.id': groupId,
  }
}
