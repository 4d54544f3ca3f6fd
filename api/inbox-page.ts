import { escapeHtml as escape } from './html.ts'

/** One webhook that arrived. */
export interface Received {
  readonly at: string
  readonly method: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** `unknown`: no live endpoint points here, or the request carries no signature. */
  readonly verified: 'yes' | 'no' | 'unknown'
  /** How many requests of this `webhook-id` came, this one included. */
  readonly attempt: number
  readonly answered: number
}

const STYLE = `body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1d2530}
article{border:1px solid #d7dce2;border-radius:6px;margin:1rem 0;padding:.75rem 1rem}
pre{background:#f5f7f9;padding:.75rem;overflow-x:auto;white-space:pre-wrap;word-break:break-word}
.yes{color:#0a7a3d}.no{color:#b3261e}.unknown{color:#6b7280}summary{cursor:pointer}`

const VERDICTS: Readonly<Record<Received['verified'], string>> = {
  yes: 'signature verified',
  no: 'signature does not verify',
  unknown: 'signature not checked: no endpoint points here, or none was sent',
}

function article(one: Received): string {
  const headers = Object.entries(one.headers)
    .map(([name, value]) => `${escape(name)}: ${escape(value)}`)
    .join('\n')
  return `<article><p><strong>${escape(one.headers['webhook-id'] ?? one.method)}</strong> at ${escape(one.at)}, attempt ${one.attempt},
answered ${one.answered}, <span class="${one.verified}">${VERDICTS[one.verified]}</span></p>
<pre>${escape(one.body)}</pre><details><summary>Headers</summary><pre>${headers}</pre></details></article>`
}

/** A page of what an inbox received, newest first. */
export function inboxPage(name: string, received: readonly Received[]): string {
  const content =
    received.length === 0 ? '<p>Nothing received yet. Point an endpoint at this address and publish.</p>' : received.map(article).join('\n')
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Inbox ${escape(name)}</title><style>${STYLE}</style></head>
<body><h1>Inbox ${escape(name)}</h1>${content}</body></html>`
}
