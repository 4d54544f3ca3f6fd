/** The one place that decides what a caller can reach. Whatever is out of reach does not exist: 404, never a hint. */
import { isId } from '../domain/ids.ts'
import { LIMITS } from '../domain/limits.ts'
import { findApplication, type Application } from '../storage/applications.ts'
import type { CachedApplication } from '../storage/config-cache.ts'
import type { Configuration } from '../storage/configuration.ts'
import { findEndpoint, type Endpoint } from '../storage/endpoints.ts'
import { findMessage, type StoredMessage } from '../storage/history/messages.ts'
import type { Queryable } from '../storage/pool.ts'
import type { Caller } from './auth.ts'
import type { ApiDependencies } from './dependencies.ts'
import { ApiError, notFound } from './errors.ts'
import { NAME_PATTERN } from './schemas/names.ts'

/** @throws {ApiError} 403 for the token of an application */
export function requireOrganisation(caller: Caller): void {
  if (caller.appId !== null) throw new ApiError('insufficient access', 'This operation needs the token of an organisation')
}

function withinReach(caller: Caller, appId: string): boolean {
  return caller.appId === null || caller.appId === appId
}

/** Whether an object can have this id or uid. */
function canExist(name: string | null | undefined): name is string {
  return typeof name === 'string' && name.length <= LIMITS.nameMaxChars && NAME_PATTERN.test(name)
}

/**
 * A part of the path as the name of an object that need not exist yet.
 * @throws {ApiError} 404 where nothing can be named so
 */
export function nameOf(part: string | undefined): string {
  if (!canExist(part)) throw notFound()
  return part
}

/** Where the caller's application of this id or uid is configured, if there is one; all else is at the same place as without a name. */
export function configurationOf(
  { configuration }: Pick<ApiDependencies, 'configuration'>,
  { orgId }: Caller,
  idOrUid: string | null | undefined,
): Configuration {
  return canExist(idOrUid) ? configuration.of(orgId, idOrUid) : configuration
}

/**
 * The caller's application, read from Postgres so that callers read their own writes.
 * @throws {ApiError} 404
 */
export async function applicationOf(
  db: Queryable,
  caller: Caller,
  idOrUid: string | undefined,
  options: { forUpdate?: boolean } = {},
): Promise<Application> {
  const application = canExist(idOrUid) ? await findApplication(db, caller.orgId, idOrUid, options) : undefined
  if (application === undefined || !withinReach(caller, application.id)) throw notFound()
  return application
}

/** The caller's application from the cache: for publishing, which may not cost a query. Undefined where there is none. */
export async function cachedApplicationOf(
  deps: Pick<ApiDependencies, 'configCache'>,
  caller: Caller,
  idOrUid: string | undefined,
): Promise<CachedApplication | undefined> {
  const application = canExist(idOrUid) ? await deps.configCache.application(caller.orgId, idOrUid) : undefined
  return application !== undefined && withinReach(caller, application.id) ? application : undefined
}

/** @throws {ApiError} 404 */
export async function endpointOf(
  db: Queryable,
  application: Pick<Application, 'id'>,
  idOrUid: string | undefined,
  options: { forUpdate?: boolean } = {},
): Promise<Endpoint> {
  const endpoint = canExist(idOrUid) ? await findEndpoint(db, application.id, idOrUid, options) : undefined
  if (endpoint === undefined) throw notFound()
  return endpoint
}

/**
 * A message by id or `eventId`.
 * @throws {ApiError} 404
 */
export async function messageOf(
  db: Queryable,
  application: Pick<Application, 'id'>,
  idOrEventId: string | undefined,
  options: { withPayload: boolean } = { withPayload: false },
): Promise<StoredMessage> {
  const message = canExist(idOrEventId) ? await findMessage(db, application.id, idOrEventId, options) : undefined
  if (message === undefined) throw notFound()
  return message
}

/**
 * What was looked for, of a message that may be in the archive where the database has it no more.
 * @throws {ApiError} 404, or 410 with the day under which it is archived
 */
export async function orArchived<T>(
  { archive }: Pick<ApiDependencies, 'archive'>,
  application: Pick<Application, 'id'>,
  idOrEventId: string | undefined,
  found: Promise<T>,
): Promise<T> {
  try {
    return await found
  } catch (error) {
    if (!(error instanceof ApiError && error.code === 'not_found') || !isId('msg', idOrEventId ?? '')) throw error
    const day = await archive?.dayOfMessage(application.id, idOrEventId!)
    if (day === undefined) throw error
    throw new ApiError('archived', `This message has been archived with those of ${day}: an operator can restore it`, { archivedDay: day })
  }
}

/** @throws {ApiError} 404 where the text cannot be the id of an attempt */
export function attemptId(text: string | undefined): string {
  if (text === undefined || !isId('atmpt', text)) throw notFound()
  return text
}
