/**
 * How often a connection is opened, and what it costs: `npm run bench:connections -- [deliveries]` prints a table.
 *
 * The HTTP client and the slots of one lane are the service's own; the receivers are another process on this machine, one
 * name for each host. A hundred senders, or a single one, take one host after the other: in turn, or as a few hosts that have most of the
 * traffic (Zipf). `closing` receivers close each connection after its answer, `forgetful` ones do not continue TLS sessions
 * either. CPU is that of this process, the senders' part included.
 */
import { fork } from 'node:child_process'
import { constants } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createHttpServer, type RequestListener, type Server } from 'node:http'
import { createServer as createHttpsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createRequestSlots } from '../activities/request-slots.ts'
import type { EndpointAccess } from '../domain/endpoint-access.ts'
import { LIMITS } from '../domain/limits.ts'
import { createAddressGuard } from '../http/address-guard.ts'
import { createHttpClient, type OutgoingClient } from '../http/client.ts'
import { makeCertificate } from '../test/support/certificates.ts'
import { buildPayload } from './payload.ts'
import { distributionOf } from './statistics.ts'

const KINDS = ['http', 'http closing', 'https', 'https closing', 'https forgetful'] as const
type Kind = (typeof KINDS)[number]
type Order = 'in turn' | 'zipf'

interface Row {
  readonly kind: Kind
  readonly hosts: number
  readonly order: Order
  readonly senders: number
}

/** What the receivers are told. */
interface Identity {
  readonly cert: string
  readonly key: string
}

const ALL = LIMITS.requestsInFlightPerLane
const IN_TURN = { order: 'in turn', senders: ALL } as const
const ROWS: readonly Row[] = [
  ...[1, 10, 100, 1000].flatMap((hosts) => (['http', 'https'] as const).map((kind) => ({ kind, hosts, ...IN_TURN }))),
  ...(['http', 'https'] as const).map((kind) => ({ kind, hosts: 1000, order: 'zipf', senders: ALL }) as const),
  ...(['http closing', 'https closing', 'https forgetful'] as const).map((kind) => ({ kind, hosts: 10, ...IN_TURN })),
  ...KINDS.map((kind) => ({ kind, hosts: 1, order: 'in turn', senders: 1 }) as const),
]
const DELIVERIES = 10_000
/** One sender makes a tenth of them. */
const SINGLE_SHARE = 10
const WARM_UP = 1000
const PAYLOAD_BYTES = 1024
const ANSWER_AFTER_MS = 5
const DOMAIN = 'bench.test'

/** The process that receives. */
function receive(): void {
  process.once('message', (identity: Identity) => {
    void Promise.all(KINDS.map(async (kind) => [kind, await listen(kind, identity)] as const)).then((ports) => process.send?.(ports))
  })
  process.once('disconnect', () => process.exit())
}

async function listen(kind: Kind, identity: Identity): Promise<number> {
  const answer: RequestListener = (request, response) => {
    if (kind !== 'http' && kind !== 'https') response.setHeader('connection', 'close')
    request.resume().once('end', () => setTimeout(() => response.end('ok'), ANSWER_AFTER_MS))
  }
  const secureOptions = kind === 'https forgetful' ? constants.SSL_OP_NO_TICKET : 0
  const server: Server = kind.startsWith('https') ? createHttpsServer({ ...identity, secureOptions }, answer) : createHttpServer(answer)
  server.keepAliveTimeout = LIMITS.connectionIdleMs * 2
  server.listen(0, '127.0.0.1', 1024)
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

/** @returns the number of a delivery's host; the same sequence each time */
function hostOf({ hosts, order }: Row): (delivery: number) => number {
  if (order === 'in turn') return (delivery) => delivery % hosts
  const sums: number[] = []
  for (let rank = 1, sum = 0; rank <= hosts; rank++) sums.push((sum += 1 / rank))
  return (delivery) => {
    // The fractional parts of multiples of the golden ratio are spread evenly.
    const at = ((delivery * 0.618033988749895) % 1) * sums.at(-1)!
    return sums.findIndex((sum) => sum > at)
  }
}

async function deliver(client: OutgoingClient, row: Row, port: number, access: EndpointAccess, deliveries: number): Promise<number[]> {
  const slots = createRequestSlots({ startingLimit: LIMITS.endpointInFlightPerWorker })
  const next = hostOf(row)
  const tookMs: number[] = []
  let begun = 0
  const sender = async (): Promise<void> => {
    while (begun < deliveries) {
      const delivery = begun++
      const host = `host-${next(delivery)}.${DOMAIN}`
      const slot = await slots.acquire(host, host)
      if (typeof slot === 'string') throw new Error(`no slot: ${slot}`)
      const startedMs = performance.now()
      const outcome = await client.post('fast', {
        url: `${row.kind.startsWith('https') ? 'https' : 'http'}://${host}:${port}/`,
        headers: { 'content-type': 'application/json' },
        body: buildPayload('connections', delivery, PAYLOAD_BYTES),
        timeoutMs: LIMITS.requestTimeoutMs,
        access,
      })
      tookMs.push(performance.now() - startedMs)
      slot.release('quickly')
      if (outcome.kind !== 'delivered') throw new Error(`${outcome.kind}: ${outcome.body}`)
    }
  }
  await Promise.all(Array.from({ length: row.senders }, sender))
  return tookMs
}

async function measureRow(row: Row, port: number, caCertificate: string, most: number): Promise<string> {
  const deliveries = row.senders === 1 ? most / SINGLE_SHARE : most
  const guard = createAddressGuard({ allowSubnets: ['127.0.0.1'], requireHttps: false, resolve: () => Promise.resolve(['127.0.0.1']) })
  const client = createHttpClient({ guard, requestTimeoutMs: LIMITS.requestTimeoutMs })
  const tls = { key: 'bench', certificate: null, privateKey: null, caCertificate }
  const access = { endpointId: 'ep_bench', tls, oauth2: null, handshake: false }
  await deliver(client, row, port, access, Math.min(WARM_UP, deliveries))
  const before = client.usage().fast.opened
  const cpuBefore = process.cpuUsage()
  const startMs = performance.now()
  const tookMs = await deliver(client, row, port, access, deliveries)
  const perS = Math.round((deliveries * 1000) / (performance.now() - startMs))
  const { user, system } = process.cpuUsage(cpuBefore)
  const { opened, open } = client.usage().fast
  await client.close()
  const per1000 = (key: keyof typeof opened) => (((opened[key] - before[key]) * 1000) / deliveries).toFixed(1)
  const { p50_ms: p50, p99_ms: p99 } = distributionOf(tookMs)
  const cpuUs = Math.round((user + system) / deliveries)
  const cells = [
    row.kind,
    row.hosts,
    row.order,
    row.senders,
    per1000('none'),
    per1000('full'),
    per1000('resumed'),
    open,
    cpuUs,
    perS,
    p50,
    p99,
  ]
  return `| ${cells.join(' | ')} |\n`
}

async function measure(deliveries: number): Promise<void> {
  const authority = makeCertificate('bench authority', { isAuthority: true })
  const { certificate: cert, privateKey: key } = makeCertificate('receivers', { issuer: authority, hosts: [`*.${DOMAIN}`] })
  const receivers = fork(fileURLToPath(import.meta.url), ['receive'])
  receivers.send({ cert, key })
  const [ports] = (await once(receivers, 'message')) as [[Kind, number][]]
  process.stdout.write(
    `Connections opened per 1,000 deliveries by TLS handshake, those open at the end, CPU per delivery; ${deliveries} deliveries.\n\n` +
      `| receivers | hosts | order | senders | no TLS | full | resumed | open | CPU, µs | deliveries/s | p50, ms | p99, ms |\n` +
      `| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n`,
  )
  for (const row of ROWS) {
    process.stdout.write(await measureRow(row, new Map(ports).get(row.kind)!, authority.certificate, deliveries))
    await delay(500)
  }
  receivers.disconnect()
  await once(receivers, 'exit')
}

if (process.argv[2] === 'receive') receive()
else await measure(Number(process.argv[2] ?? DELIVERIES))
