import type { FirstDelivery, FirstRun } from './first-event.ts'

export interface WelcomeInput {
  /** Of the service. */
  readonly url: string
  readonly uiUrl: string | undefined
  readonly namespace: string
  readonly token: string
  readonly dataDir: string
  readonly logFile: string
  readonly run: FirstRun | undefined
  /** Of the very first start. */
  readonly delivery: FirstDelivery | undefined
}

/** The Web UI's page of a workflow. */
export function workflowUrl(uiUrl: string, namespace: string, workflowId: string): string {
  return `${uiUrl}/namespaces/${encodeURIComponent(namespace)}/workflows/${encodeURIComponent(workflowId)}`
}

/** What a user needs after the readiness line: where everything is, a token, and a first request to copy. */
export function welcome(input: WelcomeInput): string {
  const { url, uiUrl, namespace, token, run, delivery } = input
  const lines = [
    `  API               ${url}/api/v1`,
    `  Inbox             ${url}/inbox/first`,
    `  Temporal Web UI   ${uiUrl === undefined ? '(of your Temporal server)' : `${uiUrl}/namespaces/${encodeURIComponent(namespace)}/workflows`}`,
    `  Documentation     README.md and docs/`,
    `  Data and logs     ${input.dataDir}, ${input.logFile}`,
    `  Token             ${token}`,
  ]
  if (delivery !== undefined) {
    const at = new Date(delivery.at).toISOString()
    lines.push(
      '',
      `  First delivery    ${at}, status ${delivery.statusCode} after ${delivery.durationMs} ms, message ${delivery.messageId}`,
    )
    if (uiUrl !== undefined && delivery.workflowId !== undefined)
      lines.push(`                    ${workflowUrl(uiUrl, namespace, delivery.workflowId)}`)
  }
  if (run !== undefined) {
    lines.push(
      '',
      '  Publish an event and see it arrive:',
      '',
      `curl -X POST ${url}/api/v1/app/${run.appId}/msg \\`,
      `  -H 'Authorization: Bearer ${token}' -H 'Content-Type: application/json' \\`,
      `  -d '{"eventType": "invoice.paid", "payload": {"amount": 42}}'`,
      `curl ${url}/inbox/first`,
    )
  }
  return ['', ...lines, '', '  Ctrl-C stops everything.', ''].join('\n')
}
