import assert from 'node:assert/strict'
import type { Received, Receiver } from './receiver.ts'
import type { TestService } from './service.ts'

/** Calls of the API for what the official client does not know. */
export interface Calls {
  call(method: string, path: string, body?: object): Promise<{ status: number; json: Record<string, unknown> }>
  /** Makes an application with one endpoint, `fields` of which are set. */
  endpointWith(url: string, fields: object): Promise<{ app: string; endpoint: string }>
  patch(of: { app: string; endpoint: string }, fields: object): Promise<void>
  /** @returns the message's id */
  publish(app: string, n: number, more?: object): Promise<string>
  /** In one request. @returns the messages' ids */
  publishTogether(app: string, ns: readonly number[]): Promise<string[]>
}

export function createCalls(service: Pick<TestService, 'url' | 'token'>): Calls {
  const calls: Calls = {
    async call(method, path, body) {
      const response = await fetch(`${service.url}/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${service.token}` },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      const text = await response.text()
      return { status: response.status, json: text === '' ? {} : (JSON.parse(text) as Record<string, unknown>) }
    },
    async endpointWith(url, fields) {
      const { json: application } = await calls.call('POST', '/app', { name: new URL(url).pathname })
      const app = String(application['id'])
      const { status, json } = await calls.call('POST', `/app/${app}/endpoint`, { url, ...fields })
      assert.equal(status, 201)
      return { app, endpoint: String(json['id']) }
    },
    async patch({ app, endpoint }, fields) {
      assert.equal((await calls.call('PATCH', `/app/${app}/endpoint/${endpoint}`, fields)).status, 200)
    },
    async publish(app, n, more = {}) {
      const { status, json } = await calls.call('POST', `/app/${app}/msg`, { eventType: 'step.taken', payload: { n }, ...more })
      assert.equal(status, 202)
      return String(json['id'])
    },
    async publishTogether(app, ns) {
      const messages = ns.map((n) => ({ eventType: 'step.taken', payload: { n } }))
      const { status, json } = await calls.call('POST', `/app/${app}/msg/batch`, { messages })
      assert.equal(status, 202)
      return (json['data'] as { id: string }[]).map((one) => one.id)
    },
  }
  return calls
}

/** The number that a request's message was published with. */
export const numberOf = (one: Received) => (JSON.parse(one.body) as { n: number }).n

/** The numbers of what has arrived at a path. */
export const numbersAt = (receiver: Receiver, path: string) => receiver.received.filter((one) => one.path === path).map(numberOf)

export const numbers = (count: number, from = 0) => Array.from({ length: count }, (_, i) => from + i)
