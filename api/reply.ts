import type { ServerResponse } from 'node:http'

/** Answers with JSON text. Written without Express's `res.json`: no ETag, no content negotiation on the hot path. */
export function sendText(response: ServerResponse, status: number, json: string): void {
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(json) })
  response.end(json)
}

export function sendJson(response: ServerResponse, status: number, value: unknown): void {
  sendText(response, status, JSON.stringify(value))
}

/** 204 */
export function sendNothing(response: ServerResponse): void {
  response.writeHead(204)
  response.end()
}
