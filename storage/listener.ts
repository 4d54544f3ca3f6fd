import pg from 'pg'

export interface Listener {
  stop(): Promise<void>
}

const RECONNECT_MS = 500

/**
 * Holds one connection that listens. `onGap` runs after every connect, the first included: what was notified while there
 * was no connection is not known, so the caller drops or re-reads what depends on it.
 */
export function listen(databaseUrl: string, channels: Readonly<Record<string, (payload: string) => void>>, onGap: () => void): Listener {
  let client: pg.Client | undefined
  let stopped = false
  let timer: NodeJS.Timeout | undefined

  const reconnect = () => {
    client = undefined
    if (!stopped) timer = setTimeout(() => void connect(), RECONNECT_MS)
  }
  const connect = async () => {
    const fresh = new pg.Client({ connectionString: databaseUrl, application_name: 'tidings listener', keepAlive: true })
    fresh.on('error', () => undefined)
    try {
      await fresh.connect()
      fresh.on('notification', (message) => channels[message.channel]?.(message.payload ?? ''))
      for (const channel of Object.keys(channels)) await fresh.query(`LISTEN ${pg.escapeIdentifier(channel)}`)
      fresh.on('end', reconnect)
      client = fresh
      onGap()
      if (stopped) await fresh.end()
    } catch {
      await fresh.end().catch(() => undefined)
      reconnect()
    }
  }
  void connect()
  return {
    async stop() {
      stopped = true
      clearTimeout(timer)
      await client?.end()
    },
  }
}
