import { startReceiver, type Answer, type Received, type Receiver } from './receiver.ts'

export interface TokenServer extends Receiver {
  /** The forms that tokens were asked for with. */
  forms(): Record<string, string>[]
}

/**
 * A token server of OAuth2. Without `answer` it gives `token-1`, `token-2`, … for an hour.
 * @param answer decides by how many requests came before
 */
export async function startTokenServer(answer: (earlier: number, one: Received) => Answer = (earlier) => grant(`token-${earlier + 1}`)) {
  let requests = 0
  const receiver = await startReceiver((one) => answer(requests++, one))
  return {
    ...receiver,
    forms: () => receiver.received.map(({ body }) => Object.fromEntries(new URLSearchParams(body))),
  } satisfies TokenServer
}

/** The answer of a token server that gives a token. */
export function grant(token: unknown, more: object = { expires_in: 3600 }): Exclude<Answer, 'hang'> {
  const body = JSON.stringify({ access_token: token, token_type: 'Bearer', ...more })
  return { status: 200, headers: { 'content-type': 'application/json' }, body }
}
