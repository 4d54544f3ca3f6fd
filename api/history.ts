/** Reads of history for the API, at replicas where there are some. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Application } from '../storage/applications.ts'
import type { HistoryReads } from '../storage/history/reads.ts'
import type { Queryable } from '../storage/pool.ts'
import type { Intake } from './dependencies.ts'
import { ApiError, ruleError } from './errors.ts'
import type { Call } from './routing.ts'

/** Carries what a client has written across processes: on the answer to a change where the request has it, and back on reads. */
const POSITION_HEADER = 'tidings-position'

/**
 * Runs statements that read history of an application. What a replica does not have is looked for at the primary before it is
 * answered that there is no such thing.
 * @param work reads only, with `db` alone, and may run twice
 * @throws {ValidationError} where the request names no position that there can be
 */
export function fromHistory<T>(
  { deps, request }: Pick<Call, 'deps' | 'request'>,
  { id }: Pick<Application, 'id'>,
  work: (db: Queryable) => Promise<T>,
): Promise<T> {
  const { history } = deps
  if (history.position === undefined) return history.read(id, work)
  return history.read(id, work, { position: positionOf(request), again: isNotFound })
}

const isNotFound = (error: unknown): boolean => error instanceof ApiError && error.code === 'not_found'

function positionOf({ headers }: Pick<IncomingMessage, 'headers'>): number | undefined {
  const text = headers[POSITION_HEADER]
  if (text === undefined) return undefined
  if (typeof text !== 'string' || !/^\d{1,15}$/.test(text)) throw ruleError(['header', POSITION_HEADER], 'Takes what an answer has had')
  return Number(text)
}

/** Tells a client that asks where the log is after its change. It is left out where that cannot be known. */
export async function tellPosition(
  { position }: HistoryReads,
  { headers, method }: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  if (position === undefined || headers[POSITION_HEADER] === undefined || method === 'GET' || method === 'HEAD') return
  try {
    response.setHeader(POSITION_HEADER, String(await position()))
  } catch {
    // What was changed is changed.
  }
}

/** The same intake, of which reads of history in this process know what it accepts. */
export function notingWrites<T extends Intake>(intake: T, history: HistoryReads): T {
  const noting = async <R>(of: readonly { readonly appId: string }[], work: () => Promise<R>): Promise<R> => {
    try {
      return await work()
    } finally {
      // Also where it failed: its commit may be what was not answered.
      for (const { appId } of of) history.wrote(appId)
    }
  }
  return {
    ...intake,
    accept: (message) => noting([message], () => intake.accept(message)),
    acceptAll: (messages) => noting(messages, () => intake.acceptAll(messages)),
    sendAgain: (redeliveries) => noting(redeliveries, () => intake.sendAgain(redeliveries)),
    takeOver: (handover, mayHold) => noting(handover.messages, () => intake.takeOver(handover, mayHold)),
  }
}
