import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { Admission } from '../activities/admission.ts'
import type { AttemptOutcome } from '../domain/outcome.ts'
import { LATENCY_BOUNDS_MS } from '../domain/health.ts'
import type { ConfigCache } from '../storage/config-cache.ts'
import type { OutgoingClient } from '../http/client.ts'
import type { EndpointHealth } from '../storage/endpoint-health.ts'
import type { EndpointStates } from '../storage/endpoint-states.ts'
import type { ProcessHealth } from './process-health.ts'

/** What this process measures of itself, for Prometheus. No label names an endpoint: there may be a million of them. */
export interface Metrics {
  /** Counts what requests come to. */
  counted(health: EndpointHealth): EndpointHealth
  /** Counts what may not be sent. */
  held(admission: Admission): Admission
  /** Tells how connections of this process are used. */
  connections(client: Pick<OutgoingClient, 'usage'>): void
  /** The text that Prometheus reads. */
  text(): Promise<string>
}

export function createMetrics({ states, configCache }: { states: EndpointStates; configCache: Pick<ConfigCache, 'counts'> }): Metrics {
  const registry = new Registry()
  collectDefaultMetrics({ register: registry })
  const attempts = new Counter({
    name: 'tidings_attempts_total',
    help: 'Requests to endpoints by what came of them; `rate_limited` of the rejected were answered with 429',
    labelNames: ['outcome'],
    registers: [registry],
  })
  const durations = new Histogram({
    name: 'tidings_attempt_duration_seconds',
    help: 'How long requests to endpoints took',
    buckets: LATENCY_BOUNDS_MS.map((ms) => ms / 1000),
    registers: [registry],
  })
  const held = new Counter({
    name: 'tidings_held_total',
    help: 'Deliveries that were parked because they might not be sent yet, by reason',
    labelNames: ['reason'],
    registers: [registry],
  })
  exposeStates(registry, states)
  exposeCache(registry, configCache)
  const count = (outcome: AttemptOutcome) => {
    attempts.inc({ outcome: outcome.kind })
    if (outcome.statusCode === 429) attempts.inc({ outcome: 'rate_limited' })
    if (outcome.statusCode > 0) durations.observe(outcome.durationMs / 1000)
  }
  return {
    counted: (health) => ({
      ...health,
      begin(endpoint) {
        const ended = health.begin(endpoint)
        return (outcome) => {
          count(outcome)
          ended(outcome)
        }
      },
    }),
    held: (admission) => ({
      ...admission,
      look(endpoint, purpose) {
        const one = admission.look(endpoint, purpose)
        if (one !== undefined) held.inc({ reason: one.reason })
        return one
      },
      check(endpoint, purpose) {
        const checked = admission.check(endpoint, purpose)
        return checked?.then((one) => {
          if (one !== undefined && purpose !== 'mailbox') held.inc({ reason: one.reason })
          return one
        })
      },
    }),
    connections: (client) => exposeConnections(registry, client),
    text: () => registry.metrics(),
  }
}

/** Read when Prometheus asks: counting for it at every request would be work for nothing. */
function exposeConnections(registry: Registry, client: Pick<OutgoingClient, 'usage'>): void {
  const registers = [registry]
  new Counter({
    name: 'tidings_requests_total',
    help: 'Requests by lane, those for tokens and permissions too',
    labelNames: ['lane'],
    registers,
    collect() {
      this.reset()
      for (const [lane, { requests }] of Object.entries(client.usage())) this.inc({ lane }, requests)
    },
  })
  new Counter({
    name: 'tidings_connections_opened_total',
    help: 'Connections opened by lane and TLS handshake: none, full, resumed (an earlier session continued)',
    labelNames: ['lane', 'handshake'],
    registers,
    collect() {
      this.reset()
      for (const [lane, { opened }] of Object.entries(client.usage())) {
        for (const [handshake, count] of Object.entries(opened)) this.inc({ lane, handshake }, count)
      }
    },
  })
  new Gauge({
    name: 'tidings_connections_open',
    help: 'Connections open by lane',
    labelNames: ['lane'],
    registers,
    collect() {
      for (const [lane, { open }] of Object.entries(client.usage())) this.set({ lane }, open)
    },
  })
}

/** Every process has the states of all endpoints in memory. */
function exposeStates(registry: Registry, states: EndpointStates): void {
  new Gauge({
    name: 'tidings_endpoints',
    help: 'Endpoints in an unusual state, as all processes know them: take one process, not the sum',
    labelNames: ['state'],
    registers: [registry],
    collect() {
      const counts = { open: 0, 'half-open': 0, recovering: 0, closed: 0, slow: 0 }
      for (const state of states.all()) {
        counts[state.breaker]++
        if (state.slowSinceMs !== null) counts.slow++
      }
      for (const name of ['open', 'half-open', 'recovering', 'slow'] as const) this.set({ state: name }, counts[name])
    },
  })
}

function exposeCache(registry: Registry, cache: Pick<ConfigCache, 'counts'>): void {
  new Counter({
    name: 'tidings_cache_requests_total',
    help: 'What applications and endpoints were asked of the caches; `redis` is asked for what `endpoints` does not have',
    labelNames: ['cache', 'result'],
    registers: [registry],
    collect() {
      const { applications, endpoints, shared } = cache.counts()
      this.reset()
      for (const [name, one] of Object.entries({ applications, endpoints })) {
        this.inc({ cache: name, result: 'hit' }, one.hits)
        this.inc({ cache: name, result: 'miss' }, one.misses)
      }
      for (const [result, count] of Object.entries({ hit: shared?.hits, miss: shared?.misses, skipped: shared?.skipped })) {
        if (count !== undefined) this.inc({ cache: 'redis', result }, count)
      }
    },
  })
  new Counter({
    name: 'tidings_cache_refreshes_total',
    help: 'Entries at the end of their time that were loaded again, or left to expire, by the uses expected of them',
    labelNames: ['cache', 'result'],
    registers: [registry],
    collect() {
      const { applications, endpoints } = cache.counts()
      this.reset()
      for (const [name, one] of Object.entries({ applications, endpoints })) {
        this.inc({ cache: name, result: 'refreshed' }, one.refreshes)
        this.inc({ cache: name, result: 'left' }, one.leftToExpire)
      }
    },
  })
  new Gauge({
    name: 'tidings_cache_bytes',
    help: 'Estimated size of what is kept in memory',
    labelNames: ['cache'],
    registers: [registry],
    collect() {
      const { applications, endpoints } = cache.counts()
      for (const [name, one] of Object.entries({ applications, endpoints })) this.set({ cache: name }, one.bytes)
    },
  })
}

/** Serves `/metrics`, `/health` and `/readyz`. @returns its port, and what stops it */
export async function serveMetrics(
  metrics: Metrics,
  health: ProcessHealth,
  host: string,
  port: number,
): Promise<{ port: number; stop(): Promise<void> }> {
  const server = createServer((request, response) => {
    if (health.answer(request, response)) return
    if (request.url !== '/metrics') {
      response.writeHead(404).end()
      return
    }
    metrics.text().then(
      (text) => response.writeHead(200, { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }).end(text),
      () => response.writeHead(500).end(),
    )
  })
  server.listen(port, host)
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
