/** What the Svix API answers, as far as it is copied. Older servers leave fields out, or call them by their older names. */

export interface SourceEventType {
  readonly name: string
  readonly description: string
  readonly archived?: boolean
  readonly deprecated?: boolean
  readonly featureFlag?: string | null
  readonly featureFlags?: readonly string[] | null
  readonly groupName?: string | null
  readonly schemas?: Readonly<Record<string, unknown>> | null
}

export interface SourceApplication {
  readonly id: string
  readonly uid?: string | null
  readonly name: string
  readonly throttleRate?: number | null
  readonly rateLimit?: number | null
  readonly metadata?: Readonly<Record<string, string>>
}

export interface SourceEndpoint {
  readonly id: string
  readonly uid?: string | null
  readonly url: string
  readonly description?: string
  readonly version?: number
  readonly disabled?: boolean
  readonly eventTypes?: readonly string[] | null
  readonly filterTypes?: readonly string[] | null
  readonly channels?: readonly string[] | null
  readonly throttleRate?: number | null
  readonly rateLimit?: number | null
  readonly metadata?: Readonly<Record<string, string>>
}

export interface SourceHeaders {
  readonly headers: Readonly<Record<string, string>>
  readonly sensitive: readonly string[]
}

const sorted = (list: readonly string[] | null | undefined): string[] | null => (list ? [...list].sort() : null)

/** The same with every field, under its name of today: two objects are alike where these are equal. */
export function eventTypeOf(type: SourceEventType) {
  return {
    name: type.name,
    description: type.description,
    archived: type.archived ?? false,
    deprecated: type.deprecated ?? false,
    featureFlag: type.featureFlag ?? type.featureFlags?.[0] ?? null,
    groupName: type.groupName ?? null,
    schemas: type.schemas ?? null,
  }
}

/** What has no uid is known by its id at the source, so that a later run finds it; a uid may not begin as an id does. */
export function uidOf(object: { readonly id: string; readonly uid?: string | null }): string {
  return object.uid ?? `svix-${object.id}`
}

export function applicationOf(application: SourceApplication) {
  return {
    uid: uidOf(application),
    name: application.name,
    throttleRate: application.throttleRate ?? application.rateLimit ?? null,
    metadata: application.metadata ?? {},
  }
}

export function endpointOf(endpoint: SourceEndpoint) {
  return {
    uid: uidOf(endpoint),
    url: endpoint.url,
    description: endpoint.description ?? '',
    version: endpoint.version ?? 1,
    disabled: endpoint.disabled ?? false,
    eventTypes: sorted(endpoint.eventTypes ?? endpoint.filterTypes),
    channels: sorted(endpoint.channels),
    throttleRate: endpoint.throttleRate ?? endpoint.rateLimit ?? null,
    metadata: endpoint.metadata ?? {},
  }
}

/** The fields of `wanted` that `current` has differently. */
export function differences<T extends object>(wanted: T, current: T): Partial<T> {
  const text = (value: unknown): string =>
    JSON.stringify(value, (_, part: unknown) =>
      typeof part === 'object' && part !== null && !Array.isArray(part)
        ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
        : part,
    )
  return Object.fromEntries(Object.entries(wanted).filter(([name, value]) => text(value) !== text(current[name as keyof T]))) as Partial<T>
}
