import { once } from 'node:events'
import { createServer } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'

export interface EgressProxy {
  readonly port: number
  /** Targets that connections were asked for, `address:port`. */
  readonly asked: readonly string[]
  /** `Proxy-Authorization` of each. */
  readonly authorizations: readonly (string | undefined)[]
  close(): void
}

/** An HTTP proxy that opens tunnels. @param refuse the status to answer instead, if any */
export async function startEgressProxy(refuse?: number): Promise<EgressProxy> {
  const asked: string[] = []
  const authorizations: (string | undefined)[] = []
  const sockets = new Set<Socket>()
  const server = createServer((_request, response) => response.writeHead(400).end())
  server.on('connect', (request, client: Socket) => {
    asked.push(request.url ?? '')
    authorizations.push(request.headers['proxy-authorization'])
    sockets.add(client)
    client.on('error', () => undefined)
    if (refuse !== undefined) return void client.end(`HTTP/1.1 ${refuse} Refused\r\nContent-Length: 0\r\n\r\n`)
    const target = new URL(`http://${request.url}`)
    const upstream = connect(Number(target.port), target.hostname.replaceAll(/[[\]]/g, ''), () => {
      client.write('HTTP/1.1 200 Connection established\r\n\r\n')
      upstream.pipe(client).pipe(upstream)
    })
    sockets.add(upstream)
    upstream.on('error', () => client.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    asked,
    authorizations,
    close() {
      for (const socket of sockets) socket.destroy()
      server.close()
    },
  }
}
