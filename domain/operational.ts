/** Events about Tidings itself, that organisations can have delivered like their own. Names and shapes are the Svix API's. */

/** Owns one application for each organisation with operational endpoints; the application's uid is that organisation's id. */
export const MANAGEMENT_ORGANISATION = 'org_00000000000SvixManagement00'

export const OPERATIONAL_EVENT_TYPES = [
  'endpoint.created',
  'endpoint.updated',
  'endpoint.deleted',
  'endpoint.enabled',
  'endpoint.disabled',
  'endpoint.disabling',
  'endpoint.breaker.opened',
  'endpoint.breaker.probe-failed',
  'endpoint.breaker.closed',
  'endpoint.slow',
  'message.attempt.failing',
  'message.attempt.exhausted',
  'message.attempt.recovered',
] as const
export type OperationalEventType = (typeof OPERATIONAL_EVENT_TYPES)[number]

/** A delivery that has failed this often is told of as failing. */
export const FAILING_AFTER_ATTEMPTS = 4
