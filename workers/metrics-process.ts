import type { Registry } from 'prom-client'
import type { SlotUsage } from '../activities/request-slots.ts'
import type { Lane } from '../domain/names.ts'
import type { OutgoingClient } from '../http/client.ts'
import type { ConfigCache } from '../storage/config-cache.ts'
import type { ConfigCopy } from '../storage/config-copy.ts'
import type { EndpointStates } from '../storage/endpoint-states.ts'
import { readCounter, readGauge } from './metrics-read.ts'

/** How busy the process is. */
export function exposeEventLoop(registry: Registry): void {
  const help = 'Time that the event loop was busy: its rate is the utilisation, 0 to 1'
  readCounter(registry, { name: 'tidings_event_loop_busy_seconds_total', help }, (add) =>
    add({}, performance.eventLoopUtilization().active / 1000),
  )
}

/** Places for requests of each lane. */
export function exposeSlots(registry: Registry, usage: () => Readonly<Record<Lane, SlotUsage>>): void {
  const labels = ['lane']
  readGauge(registry, { name: 'tidings_request_slots_used', help: 'Requests in flight by lane', labels }, (add) => {
    for (const [lane, { used }] of Object.entries(usage())) add({ lane }, used)
  })
  readGauge(registry, { name: 'tidings_request_slots', help: 'Requests that may be in flight by lane', labels }, (add) => {
    for (const [lane, { max }] of Object.entries(usage())) add({ lane }, max)
  })
}

/** Read when Prometheus asks: counting for it at every request would be work for nothing. */
export function exposeConnections(registry: Registry, client: Pick<OutgoingClient, 'usage'>): void {
  const requestText = 'Requests by lane, those for tokens and permissions too'
  readCounter(registry, { name: 'tidings_requests_total', help: requestText, labels: ['lane'] }, (add) => {
    for (const [lane, { requests }] of Object.entries(client.usage())) add({ lane }, requests)
  })
  const openedText = 'Connections opened by lane and TLS handshake: none, full, resumed (an earlier session continued)'
  readCounter(registry, { name: 'tidings_connections_opened_total', help: openedText, labels: ['lane', 'handshake'] }, (add) => {
    for (const [lane, { opened }] of Object.entries(client.usage())) {
      for (const [handshake, count] of Object.entries(opened)) add({ lane, handshake }, count)
    }
  })
  readGauge(registry, { name: 'tidings_connections_open', help: 'Connections open by lane', labels: ['lane'] }, (add) => {
    for (const [lane, { open }] of Object.entries(client.usage())) add({ lane }, open)
  })
}

/** Every process has the states of all endpoints in memory. */
export function exposeStates(registry: Registry, states: Pick<EndpointStates, 'all'>): void {
  const help = 'Endpoints in an unusual state, as all processes know them: take one process, not the sum'
  readGauge(registry, { name: 'tidings_endpoints', help, labels: ['state'] }, (add) => {
    const counts = { open: 0, 'half-open': 0, recovering: 0, closed: 0, slow: 0 }
    for (const state of states.all()) {
      counts[state.breaker]++
      if (state.slowSinceMs !== null) counts.slow++
    }
    for (const name of ['open', 'half-open', 'recovering', 'slow'] as const) add({ state: name }, counts[name])
  })
}

export function exposeCopy(registry: Registry, copy: Pick<ConfigCopy, 'ageMs'>): void {
  const help = "How old this region's copy of the configuration is; +Inf where that is not known"
  readGauge(registry, { name: 'tidings_config_copy_age_seconds', help }, (add) => add({}, copy.ageMs() / 1000))
}

export function exposeCache(registry: Registry, cache: Pick<ConfigCache, 'counts'>): void {
  const labels = ['cache', 'result']
  const requestText = 'What applications and endpoints were asked of the caches; `redis` is asked for what `endpoints` does not have'
  readCounter(registry, { name: 'tidings_cache_requests_total', help: requestText, labels }, (add) => {
    const { applications, endpoints, shared } = cache.counts()
    for (const [name, one] of Object.entries({ applications, endpoints })) {
      add({ cache: name, result: 'hit' }, one.hits)
      add({ cache: name, result: 'miss' }, one.misses)
    }
    for (const [result, count] of Object.entries({ hit: shared?.hits, miss: shared?.misses, skipped: shared?.skipped })) {
      if (count !== undefined) add({ cache: 'redis', result }, count)
    }
  })
  const refreshText = 'Entries at the end of their time that were loaded again, or left to expire, by the uses expected of them'
  readCounter(registry, { name: 'tidings_cache_refreshes_total', help: refreshText, labels }, (add) => {
    const { applications, endpoints } = cache.counts()
    for (const [name, one] of Object.entries({ applications, endpoints })) {
      add({ cache: name, result: 'refreshed' }, one.refreshes)
      add({ cache: name, result: 'left' }, one.leftToExpire)
    }
  })
  readGauge(registry, { name: 'tidings_cache_bytes', help: 'Estimated size of what is kept in memory', labels: ['cache'] }, (add) => {
    const { applications, endpoints } = cache.counts()
    for (const [name, one] of Object.entries({ applications, endpoints })) add({ cache: name }, one.bytes)
  })
}
