import { once } from 'node:events'
import { connect, type AddressInfo } from 'node:net'
import { createServer, type TlsOptions } from 'node:tls'

/** A TLS listener in front of a server that speaks none. */
export interface TlsFront {
  /** host:port */
  readonly address: string
  /** Of the clients' certificates, one for each connection. */
  readonly subjects: readonly (string | undefined)[]
  close(): void
}

/** @param target host:port of a gRPC server */
export async function startTlsFront(target: string, options: TlsOptions): Promise<TlsFront> {
  const [host, port] = target.split(':')
  const subjects: (string | undefined)[] = []
  const open = new Set<{ destroy(): unknown }>()
  const server = createServer({ ...options, ALPNProtocols: ['h2'] }, (socket) => {
    const { subject } = socket.getPeerCertificate()
    subjects.push(subject === undefined ? undefined : String(subject.CN))
    const behind = connect(Number(port), host)
    for (const one of [socket, behind]) {
      open.add(one)
      one.on('error', () => undefined)
    }
    socket.on('close', () => behind.destroy()).pipe(behind)
    behind.on('close', () => socket.destroy()).pipe(socket)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    subjects,
    close() {
      for (const socket of open) socket.destroy()
      server.close()
    },
  }
}
