import { randomInt } from 'node:crypto'
import pg from 'pg'
import { nowMs } from './clock.ts'
import type { Target } from './own-service.ts'
import { distributionOf, type Distribution } from './statistics.ts'
import type { Place } from './storage-fill.ts'

/** Requests of one kind, one after the other, each for another application, endpoint and message. */
export interface Read {
  readonly name: string
  readonly ms: Distribution
}

interface Asked extends Place {
  readonly endpointId: string
  readonly messageId: string
  /** Unix milliseconds at which the message was accepted. */
  readonly atMs: number
}

const DAY_MS = 86_400_000
const time = (ms: number) => encodeURIComponent(new Date(ms).toISOString())

const READS: Readonly<Record<string, (asked: Asked) => string>> = {
  'messages of an application, newest first': ({ appId }) => `app/${appId}/msg?limit=50`,
  'messages of an application before a day': ({ appId, atMs }) => `app/${appId}/msg?limit=50&before=${time(atMs)}`,
  'attempts of an endpoint, newest first': ({ appId, endpointId }) => `app/${appId}/attempt/endpoint/${endpointId}?limit=50`,
  'attempts of an endpoint that failed': ({ appId, endpointId }) => `app/${appId}/attempt/endpoint/${endpointId}?limit=50&status=2`,
  'attempts of an endpoint before a day': ({ appId, endpointId, atMs }) =>
    `app/${appId}/attempt/endpoint/${endpointId}?limit=50&before=${time(atMs)}`,
  'attempts of a message': ({ appId, messageId }) => `app/${appId}/attempt/msg/${messageId}?limit=50`,
  'messages of an endpoint with their last attempt': ({ appId, endpointId }) => `app/${appId}/endpoint/${endpointId}/msg?limit=50`,
  'one message': ({ appId, messageId }) => `app/${appId}/msg/${messageId}`,
  'statistics of an endpoint, 28 days': ({ appId, endpointId }) => `app/${appId}/endpoint/${endpointId}/stats`,
  'history of an endpoint, days': ({ appId, endpointId }) =>
    `app/${appId}/endpoint/${endpointId}/stats/history?since=${time(Date.now() - 28 * DAY_MS)}&grain=day`,
  'history of an application, hours': ({ appId }) => `app/${appId}/stats/history?since=${time(Date.now() - 28 * DAY_MS)}&grain=hour`,
}

/** @throws where an answer is not 200, or has nothing in it */
export async function measureReads(
  target: Target & { readonly databaseUrl: string },
  places: readonly Place[],
  requests: number,
): Promise<Read[]> {
  const asked = await chooseAsked(target.databaseUrl, places, requests)
  const reads: Read[] = []
  for (const [name, path] of Object.entries(READS)) {
    const ms: number[] = []
    for (const one of asked) ms.push(await ask(target, path(one)))
    reads.push({ name, ms: distributionOf(ms) })
  }
  return reads
}

async function ask({ url, token }: Target, path: string): Promise<number> {
  const begin = nowMs()
  const response = await fetch(`${url}/api/v1/${path}`, { headers: { authorization: `Bearer ${token}` } })
  const text = await response.text()
  const took = nowMs() - begin
  if (response.status !== 200 || text.includes('"data":[]')) throw new Error(`${path}: ${response.status} ${text.slice(0, 300)}`)
  return took
}

async function chooseAsked(databaseUrl: string, places: readonly Place[], requests: number): Promise<Asked[]> {
  const client = new pg.Client({ connectionString: databaseUrl })
  await client.connect()
  const { rows: days } = await client.query<{ name: string }>(
    `SELECT relname AS name FROM pg_class WHERE relname ~ '^message_\\d{8}$' AND relkind = 'r' AND reltuples > 100`,
  )
  const asked: Asked[] = []
  while (asked.length < requests) {
    const place = places[randomInt(places.length)]!
    const { rows } = await client.query<{ id: string; ms: number }>(
      `SELECT id, (extract(epoch FROM created_at) * 1000)::float8 AS ms FROM ${days[randomInt(days.length)]!.name} WHERE app_id = $1 LIMIT 1 OFFSET $2`,
      [place.appId, randomInt(50)],
    )
    for (const { id, ms } of rows) {
      asked.push({ ...place, endpointId: place.endpointIds[randomInt(place.endpointIds.length)]!, messageId: id, atMs: ms })
    }
  }
  await client.end()
  return asked
}
