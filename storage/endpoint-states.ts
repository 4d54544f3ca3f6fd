import type { Logger } from 'pino'
import { countsAnew, type BreakerState, type EndpointState } from '../domain/breaker.ts'
import { countsFromMsOf } from './endpoint-windows.ts'
import type { Pool, Queryable } from './pool.ts'

/** Channel on which every process hears of changed endpoint states; the payload is the endpoint's id. */
export const ENDPOINT_STATE_CHANNEL = 'tidings_endpoint_state'

const RELOAD_EVERY_MS = 30_000
const RETRY_LOAD_MS = 500

/** The unusual states of all endpoints, in memory: of an endpoint without one nothing has to be asked. */
export interface EndpointStates {
  get(endpointId: string): EndpointState | undefined
  all(): Iterable<EndpointState>
  /** An endpoint's state was changed. @returns after it was read again, or could not be */
  changed(endpointId: string): Promise<void>
  /** Changes may have been missed: all are read again. */
  reload(): void
  /** @param listen is told of each endpoint whose counts begin anew, as soon as this process has heard of it */
  onForget(listen: (endpointId: string) => void): void
  stop(): Promise<void>
}

/** @returns after the first load, so that nothing is sent before it is known to whom nothing may be sent */
export async function createEndpointStates({ pool, log }: { pool: Pool; log: Logger }): Promise<EndpointStates> {
  const states = new Map<string, EndpointState>()
  const stale = new Set<string>()
  const listeners: ((endpointId: string) => void)[] = []
  let all = false
  let refreshing: Promise<void> | undefined
  let stopped = false
  let retry: NodeJS.Timeout | undefined

  // One at a time: a later answer is never overwritten by an earlier one.
  const refresh = async () => {
    while (!stopped && (all || stale.size > 0)) {
      const ids = all ? undefined : [...stale]
      all = false
      stale.clear()
      try {
        for (const id of apply(states, ids, await readEndpointStates(pool, ids))) for (const forget of listeners) forget(id)
      } catch (error) {
        all = true
        log.warn({ err: error }, 'endpoint-states.not-read')
        retry = setTimeout(() => void ask(), RETRY_LOAD_MS)
        return
      }
    }
  }
  const ask = (): Promise<void> => {
    refreshing ??= refresh().finally(() => {
      refreshing = undefined
      // Something was asked for between the last look and now.
      if (stale.size > 0) void ask()
    })
    return refreshing
  }
  const reload = () => {
    all = true
    void ask()
  }
  apply(states, undefined, await readEndpointStates(pool))
  const timer = setInterval(reload, RELOAD_EVERY_MS)
  return {
    get: (endpointId) => states.get(endpointId),
    all: () => states.values(),
    changed(endpointId) {
      stale.add(endpointId)
      return ask()
    },
    reload,
    onForget(listen) {
      listeners.push(listen)
    },
    async stop() {
      stopped = true
      clearInterval(timer)
      clearTimeout(retry)
      await refreshing
    },
  }
}

/** @returns the endpoints whose counts begin anew */
function apply(states: Map<string, EndpointState>, ids: readonly string[] | undefined, read: readonly EndpointState[]): string[] {
  const before = new Map(states)
  if (ids === undefined) states.clear()
  else for (const id of ids) states.delete(id)
  for (const state of read) states.set(state.endpointId, state)
  return (ids ?? [...new Set([...before.keys(), ...states.keys()])]).filter((id) => countsAnew(before.get(id), states.get(id)))
}

interface StateRow {
  endpoint_id: string
  app_id: string
  breaker: BreakerState
  since: Date
  until: Date | null
  probes: number
  ramp_rate: number | null
  ramp_from: Date | null
  slow_since: Date | null
  counts_from_ms: number
}

/** @param ids only of these endpoints */
export async function readEndpointStates(db: Queryable, ids?: readonly string[]): Promise<EndpointState[]> {
  const columns = `endpoint_id, app_id, breaker, since, until, probes, ramp_rate, ramp_from, slow_since, ${countsFromMsOf('endpoint_state')} AS counts_from_ms`
  const { rows } =
    ids === undefined
      ? await db.query<StateRow>(`SELECT ${columns} FROM endpoint_state`)
      : await db.query<StateRow>({
          name: 'endpoint-states',
          text: `SELECT ${columns} FROM endpoint_state WHERE endpoint_id = ANY($1::text[])`,
          values: [ids],
        })
  return rows.map(toState)
}

function toState(row: StateRow): EndpointState {
  return {
    endpointId: row.endpoint_id,
    appId: row.app_id,
    breaker: row.breaker,
    sinceMs: row.since.getTime(),
    untilMs: row.until?.getTime() ?? null,
    probes: row.probes,
    ramp: row.ramp_rate === null || row.ramp_from === null ? null : { rate: row.ramp_rate, fromMs: row.ramp_from.getTime() },
    slowSinceMs: row.slow_since?.getTime() ?? null,
    countsFromMs: row.counts_from_ms,
  }
}

/** Call it in the transaction that changes an endpoint's state. */
export async function notifyEndpointState(db: Queryable, endpointId: string): Promise<void> {
  await db.query('SELECT pg_notify($1, $2)', [ENDPOINT_STATE_CHANNEL, endpointId])
}
