/** The application already has a message with this event id. */
export class EventIdConflictError extends Error {
  readonly code = 'event_id_conflict'
  override readonly name = 'EventIdConflictError'
}

/** A message was published with this idempotency key before. */
export class RepeatedKeyError extends Error {
  readonly code = 'repeated_key'
  override readonly name = 'RepeatedKeyError'
}

/** The process has more to accept than it may hold; nothing was accepted. */
export class OverloadedError extends Error {
  readonly code = 'overloaded'
  override readonly name = 'OverloadedError'
  /** Whole seconds after which it is worth another try. */
  readonly retryAfterS = 1
}

/** The process is stopping and takes no more work. */
export class StoppingError extends Error {
  readonly code = 'stopping'
  override readonly name = 'StoppingError'
}

/** Configuration cannot be read or written where it is kept. Nothing was changed. */
export class ConfigurationUnavailableError extends Error {
  readonly code = 'configuration_unavailable'
  override readonly name = 'ConfigurationUnavailableError'
}

/**
 * A change of configuration was written, and not confirmed by enough members in time: it may be in effect already, come into
 * effect later, or be lost.
 */
export class ConfigurationUnconfirmedError extends Error {
  readonly code = 'configuration_unconfirmed'
  override readonly name = 'ConfigurationUnconfirmedError'
}
