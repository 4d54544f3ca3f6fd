import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

/** A span as it came over the wire. */
export interface ReceivedSpan {
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly name: string
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly status: { readonly code?: number }
  /** Of the process that made it. */
  readonly pid: number
  readonly attributes: Readonly<Record<string, string | number>>
}

interface WireAttribute {
  readonly key: string
  readonly value: { readonly stringValue?: string; readonly intValue?: number | string }
}

type WireSpan = Omit<ReceivedSpan, 'attributes' | 'pid'> & { readonly attributes: readonly WireAttribute[] }

interface WireRequest {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: readonly WireAttribute[] }
    readonly scopeSpans: readonly { readonly spans: readonly WireSpan[] }[]
  }[]
}

export interface OtlpReceiver {
  readonly url: string
  readonly spans: readonly ReceivedSpan[]
  close(): Promise<void>
}

/** A collector that takes OTLP traces as JSON over HTTP and keeps their spans. */
export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
    request.once('end', () => {
      if (request.url !== '/v1/traces') return response.writeHead(404).end()
      spans.push(...spansOf(JSON.parse(body) as WireRequest))
      return response.writeHead(200, { 'content-type': 'application/json' }).end('{}')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    spans,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function spansOf({ resourceSpans }: WireRequest): ReceivedSpan[] {
  return resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const pid = Number(attributesOf(resource.attributes)['process.pid'])
    return scopeSpans.flatMap(({ spans }) => spans.map((span) => ({ ...span, pid, attributes: attributesOf(span.attributes) })))
  })
}

function attributesOf(wire: readonly WireAttribute[]): Record<string, string | number> {
  return Object.fromEntries(wire.map(({ key, value }) => [key, value.stringValue ?? Number(value.intValue)]))
}
