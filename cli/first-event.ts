import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { RestError, type RestClient } from './rest.ts'

const WAIT_MS = 30_000
const POLL_MS = 50

/** The application and endpoint that the first start made, kept in the data directory. */
export interface FirstRun {
  readonly appId: string
  readonly endpointId: string
}

export interface FirstDelivery {
  readonly messageId: string
  readonly workflowId: string | undefined
  /** ISO 8601 */
  readonly at: string
  readonly statusCode: number
  readonly durationMs: number
}

interface Attempt {
  readonly responseStatusCode: number
  readonly responseDurationMs: number
  readonly timestamp: string
}

const fileIn = (dataDir: string) => join(dataDir, 'first-run.json')

/** What an earlier start made, or undefined at the very first. */
export function readFirstRun(dataDir: string): FirstRun | undefined {
  try {
    return JSON.parse(readFileSync(fileIn(dataDir), 'utf8')) as FirstRun
  } catch {
    return undefined
  }
}

/**
 * Registers a webhook at the development inbox, publishes one event and waits for its delivery, through the REST API as
 * any application does. Recorded in the data directory, so that later starts do not; it can be repeated when it failed.
 * @param inboxUrl the inbox's address for the endpoint
 * @returns undefined for the delivery where there was none in 30 s
 * @throws what the client throws
 */
export async function publishFirstEvent(
  rest: RestClient,
  dataDir: string,
  inboxUrl: string,
): Promise<{ readonly run: FirstRun; readonly delivery: FirstDelivery | undefined }> {
  const app = await rest.post<{ id: string }>('/app?get_if_exists=true', { name: 'First application', uid: 'first' })
  const run = { appId: app.id, endpointId: await ensureEndpoint(rest, app.id, inboxUrl) }
  const message = await rest.post<{ id: string }>(`/app/${app.id}/msg`, {
    eventType: 'tidings.started',
    payload: { type: 'tidings.started', text: 'The first webhook of this installation' },
  })
  const delivery = await waitForDelivery(rest, app.id, message.id)
  if (delivery !== undefined) writeFileSync(fileIn(dataDir), `${JSON.stringify(run)}\n`)
  return { run, delivery }
}

async function ensureEndpoint(rest: RestClient, appId: string, url: string): Promise<string> {
  const uid = 'first-inbox'
  try {
    const endpoint = await rest.patch<{ id: string }>(`/app/${appId}/endpoint/${uid}`, { url })
    return endpoint.id
  } catch (error) {
    if (!(error instanceof RestError) || error.status !== 404) throw error
  }
  const endpoint = await rest.post<{ id: string }>(`/app/${appId}/endpoint`, { url, uid, description: 'The inbox of this installation' })
  return endpoint.id
}

/** Points the first endpoint at this start's port. Whatever became of that endpoint meanwhile is its owner's business. */
export async function moveFirstEndpoint(rest: RestClient, run: FirstRun, inboxUrl: string): Promise<void> {
  const path = `/app/${run.appId}/endpoint/${run.endpointId}`
  try {
    const { url } = await rest.get<{ url: string }>(path)
    if (url !== inboxUrl && /^http:\/\/127\.0\.0\.1:\d+\/inbox\/first$/.test(url)) await rest.patch(path, { url: inboxUrl })
  } catch (error) {
    if (!(error instanceof RestError)) throw error
  }
}

async function waitForDelivery(rest: RestClient, appId: string, messageId: string): Promise<FirstDelivery | undefined> {
  const deadline = performance.now() + WAIT_MS
  while (performance.now() < deadline) {
    const { data } = await rest.get<{ data: Attempt[] }>(`/app/${appId}/attempt/msg/${messageId}`)
    const attempt = data[0]
    if (attempt !== undefined) {
      const { workflowId } = await rest.get<{ workflowId?: string | null }>(`/app/${appId}/msg/${messageId}`)
      return {
        messageId,
        workflowId: workflowId ?? undefined,
        at: attempt.timestamp,
        statusCode: attempt.responseStatusCode,
        durationMs: attempt.responseDurationMs,
      }
    }
    await delay(POLL_MS)
  }
  return undefined
}
