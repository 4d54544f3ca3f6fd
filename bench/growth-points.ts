import type { Scenario } from './scenarios.ts'

/** What grows, one at a time. */
export const DIMENSIONS = ['endpoints', 'stored', 'payload', 'fan-out'] as const
export type Dimension = (typeof DIMENSIONS)[number]

/** What is measured at one size of one dimension. */
export interface Point {
  readonly dimension: Dimension
  readonly size: number
  readonly scenario: Scenario
}

export const SIZES: Readonly<Record<Dimension, readonly number[]>> = {
  endpoints: [10, 100, 1000, 10_000, 100_000],
  stored: [1000, 10_000, 100_000, 1_000_000, 10_000_000],
  payload: [100, 1024, 10_240, 102_400, 1_000_000],
  'fan-out': [1, 10, 100, 1000, 10_000],
}

/** What the axis counts. */
export const UNITS: Readonly<Record<Dimension, string>> = {
  endpoints: 'endpoints of the installation',
  stored: 'stored messages',
  payload: 'bytes of a payload',
  'fan-out': 'endpoints of an event',
}

const PAYLOAD_BYTES = 1024
const FAN_OUT = 10
/** Of each point, where its payloads allow it. */
const DELIVERIES = 10_000
const BYTES_MAX = 100_000_000
const MESSAGES_MAX = 2000
const MESSAGES_MIN = 2
const PUBLISHERS = 16
/** Ports of the sink: ten requests at a time go to each. */
const HOSTS = 10

/** About ten thousand deliveries, fewer where payloads are large; publishers that each wait for their answer. */
export function pointOf(dimension: Dimension, size: number): Point {
  const fanOut = dimension === 'fan-out' ? size : FAN_OUT
  const payloadBytes = dimension === 'payload' ? size : PAYLOAD_BYTES
  const deliveries = Math.min(DELIVERIES, BYTES_MAX / payloadBytes)
  const messages = Math.min(MESSAGES_MAX, Math.max(MESSAGES_MIN, Math.round(deliveries / fanOut)))
  return {
    ...{ dimension, size },
    scenario: {
      name: `${dimension}-${size}`,
      behaviours: Array.from({ length: fanOut }, () => 'healthy' as const),
      ...{ messages, publishers: Math.min(PUBLISHERS, messages), payloadBytes, hosts: Math.min(HOSTS, fanOut) },
      ...{ silenceMs: 30_000, capMs: 120_000 },
    },
  }
}
