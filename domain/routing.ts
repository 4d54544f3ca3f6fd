/** What routing needs to know of a message. */
export interface RoutedMessage {
  readonly eventType: string
  readonly channels: readonly string[] | null
  readonly createdAtMs: number
}

/** What routing needs to know of an endpoint. */
export interface Subscription {
  readonly disabled: boolean
  /** Null subscribes to every event type. */
  readonly eventTypes: readonly string[] | null
  /** Null takes every channel. */
  readonly channels: readonly string[] | null
}

/**
 * Whether the endpoint takes the message: enabled, subscribed to the event type, and, where it has channels, sharing one
 * with the message (an endpoint without channels gets everything).
 */
export function takes(endpoint: Subscription, message: RoutedMessage): boolean {
  if (endpoint.disabled) return false
  if (endpoint.eventTypes !== null && !endpoint.eventTypes.includes(message.eventType)) return false
  if (endpoint.channels === null || endpoint.channels.length === 0) return true
  return message.channels !== null && message.channels.some((channel) => endpoint.channels!.includes(channel))
}
