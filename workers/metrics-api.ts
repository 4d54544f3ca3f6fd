import type { Server } from 'node:http'
import { Histogram, type Registry } from 'prom-client'
import type { Intake } from '../api/dependencies.ts'
import { readCounter } from './metrics-read.ts'

/** Upper bounds, in seconds, of how long a request to the API takes. */
const REQUEST_BOUNDS_S = [0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5]
const PUBLISH = /^\/api\/v1\/app\/[^/?]+\/msg(\?|$)/

type Kind = 'publish' | 'read' | 'change'

/** Counts and times the requests that an API server answers. */
export function exposeRequests(registry: Registry, server: Server): void {
  const durations = new Histogram({
    name: 'tidings_api_request_duration_seconds',
    help: 'How long requests to the API took until they were answered, by kind: publish, read, change',
    labelNames: ['kind'],
    buckets: REQUEST_BOUNDS_S,
    registers: [registry],
  })
  const answers = new Map<string, { readonly kind: Kind; readonly status: string; count: number }>()
  server.on('request', ({ method, url }, response) => {
    const startedAt = performance.now()
    response.once('finish', () => {
      const kind: Kind = method === 'GET' ? 'read' : method === 'POST' && PUBLISH.test(url ?? '') ? 'publish' : 'change'
      const status = `${Math.floor(response.statusCode / 100)}xx`
      const key = `${kind} ${status}`
      const known = answers.get(key)
      if (known === undefined) answers.set(key, { kind, status, count: 1 })
      else known.count++
      durations.observe({ kind }, (performance.now() - startedAt) / 1000)
    })
  })
  const help = 'Requests to the API by kind and class of the status'
  readCounter(registry, { name: 'tidings_api_requests_total', help, labels: ['kind', 'status'] }, (add) => {
    for (const { kind, status, count } of answers.values()) add({ kind, status }, count)
  })
}

/** Counts messages, and times them from when they are valid until they are committed: waiting for others is in it. */
export function exposeAccepting<T extends Intake>(registry: Registry, intake: T): T {
  let accepted = 0
  const durations = new Histogram({
    name: 'tidings_accept_duration_seconds',
    help: 'How long a publish waited for its turn and its commit',
    buckets: REQUEST_BOUNDS_S,
    registers: [registry],
  })
  readCounter(registry, { name: 'tidings_messages_accepted_total', help: 'Messages that were accepted' }, (add) => add({}, accepted))
  const committed = (messages: number, startedAt: number) => {
    accepted += messages
    durations.observe((performance.now() - startedAt) / 1000)
  }
  return {
    ...intake,
    async accept(message) {
      const startedAt = performance.now()
      await intake.accept(message)
      committed(1, startedAt)
    },
    async acceptAll(messages) {
      const startedAt = performance.now()
      const taken = await intake.acceptAll(messages)
      if (taken.length === 0) committed(messages.length, startedAt)
      return taken
    },
  }
}
