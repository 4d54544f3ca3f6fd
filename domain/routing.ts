/** What routing needs to know of a message. */
export interface RoutedMessage {
  readonly eventType: string
  readonly channels: readonly string[] | null
  readonly createdAtMs: number
  /** Null once expunged or expired. */
  readonly payload: string | null
}

/** The event types of a subscription, taken apart once, so that routing a message only compares. */
export interface EventTypePatterns {
  readonly names: ReadonlySet<string>
  /** What comes before the `*` of a wildcard, its last dot included. */
  readonly prefixes: readonly string[]
}

/** Whether the content of a message is what the endpoint wants. */
export type PayloadFilter = (message: Pick<RoutedMessage, 'eventType' | 'channels' | 'payload'>) => boolean

/** What routing needs to know of an endpoint. */
export interface Subscription {
  readonly disabled: boolean
  /** Null subscribes to every event type. */
  readonly eventTypes: EventTypePatterns | null
  /** Null takes every channel. */
  readonly channels: readonly string[] | null
  /** Null takes every payload. */
  readonly filter: PayloadFilter | null
}

const EVERY_TYPE = '*'

/** Whether the text is a wildcard, `*` or `prefix.*`, rather than the name of an event type. */
export function isWildcard(eventType: string): boolean {
  return eventType === EVERY_TYPE || eventType.endsWith('.*')
}

/**
 * Takes the event types of an endpoint apart. `invoice.*` is for every type below `invoice`, at any depth; `*` for all.
 * @returns null where every type is subscribed to
 */
export function toPatterns(eventTypes: readonly string[] | null): EventTypePatterns | null {
  if (eventTypes === null || eventTypes.includes(EVERY_TYPE)) return null
  const wildcards = eventTypes.filter(isWildcard)
  return {
    names: new Set(eventTypes.filter((one) => !isWildcard(one))),
    prefixes: wildcards.map((one) => one.slice(0, -EVERY_TYPE.length)),
  }
}

/**
 * Whether the endpoint is enabled, subscribed to the event type, and, where it has channels, shares one with the message (an
 * endpoint without channels gets everything).
 */
export function subscribes(endpoint: Omit<Subscription, 'filter'>, message: Pick<RoutedMessage, 'eventType' | 'channels'>): boolean {
  if (endpoint.disabled) return false
  if (endpoint.eventTypes !== null && !includesType(endpoint.eventTypes, message.eventType)) return false
  if (endpoint.channels === null || endpoint.channels.length === 0) return true
  return message.channels !== null && message.channels.some((channel) => endpoint.channels!.includes(channel))
}

function includesType(patterns: EventTypePatterns, eventType: string): boolean {
  return patterns.names.has(eventType) || patterns.prefixes.some((prefix) => eventType.startsWith(prefix))
}

/** Whether the endpoint gets the message: it subscribes to it, and its filter, where it has one, takes the payload. */
export function takes(endpoint: Subscription, message: RoutedMessage): boolean {
  return subscribes(endpoint, message) && (endpoint.filter === null || endpoint.filter(message))
}
