import { LIMITS } from '../domain/limits.ts'

/** JSON as it was written: what it says, and the text that said it. What is to leave as it came is copied from the text. */
export class WrittenJson {
  readonly value: unknown
  readonly text: string

  constructor(value: unknown, text: string) {
    this.value = value
    this.text = text
  }
}

/** What JSON says, whether its text was kept or not. */
export function valueOf(json: unknown): unknown {
  return json instanceof WrittenJson ? json.value : json
}

/** The text of JSON: as it was written, where that is known. */
export function textOf(json: unknown): string {
  return json instanceof WrittenJson ? json.text : JSON.stringify(json)
}

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const ARRAY = 0x5b
const BACKSLASH = 0x5c
const ARRAY_END = 0x5d
const OBJECT = 0x7b
const OBJECT_END = 0x7d

/** Where the members `payload` and `data` of one message are in a body: positions of bytes. */
type Places = Record<string, readonly [start: number, end: number]>

/** Messages of a body, by their position in `messages`, and below 0 what has no position there. */
const BODY = -2
const MESSAGE = -1

export interface Scan {
  readonly isTooDeep: boolean
  readonly places: ReadonlyMap<number, Places>
}

/** The members that carry payloads, by the names that clients may give them. */
const PAYLOADS = new Set(['payload', 'data'])
const PATH_DEPTH = 3

/**
 * Looks through the bytes of JSON once, which need not be valid: tells whether it is nested deeper than 64 levels (what
 * recurses over a parsed value must not meet one that exhausts the stack), and where the payloads of its messages are. Of
 * members with the same name the last counts, as in `JSON.parse`.
 */
export function scanJson(json: Buffer): Scan {
  const places = new Map<number, Places>()
  let depth = 0
  /** The last string: a name, where a colon follows. */
  let nameAt = 0
  let nameEnd = 0
  /** The member of the body that this is in, and which of its elements. */
  let within = ''
  let element = 0
  let open: { readonly name: string; readonly depth: number; readonly startAt: number; readonly message: number } | undefined

  const begin = (at: number) => {
    const name = nameIn(json, nameAt, nameEnd)
    if (depth === 1) {
      within = name
      element = 0
    }
    const message = messageAt(depth, within, element)
    if (message !== undefined && PAYLOADS.has(name)) open = { name, depth, startAt: at + 1, message }
  }
  const end = (at: number) => {
    if (open !== undefined && open.depth === depth) {
      const found = places.get(open.message)
      if (found === undefined) places.set(open.message, { [open.name]: [open.startAt, at] })
      else found[open.name] = [open.startAt, at]
      open = undefined
    }
    if (depth === 2 && json[at] === COMMA) element++
  }
  for (let at = 0; at < json.length; at++) {
    switch (json[at]) {
      case QUOTE:
        nameAt = at
        at = nameEnd = endOfString(json, at)
        break
      case ARRAY:
      case OBJECT:
        if (++depth > LIMITS.jsonDepthMax) return { isTooDeep: true, places }
        break
      case COLON:
        if (depth <= PATH_DEPTH) begin(at)
        break
      case COMMA:
        if (depth <= PATH_DEPTH) end(at)
        break
      case ARRAY_END:
      case OBJECT_END:
        if (depth <= PATH_DEPTH) end(at)
        depth--
        break
      default:
    }
  }
  return { isTooDeep: false, places }
}

/** The message whose members are at this depth. More messages than a request may have are refused: nothing of them is kept. */
function messageAt(depth: number, within: string, element: number): number | undefined {
  if (depth === 1) return BODY
  if (depth === 2 && within === 'message') return MESSAGE
  return depth === 3 && within === 'messages' && element < LIMITS.messagesPerBatch ? element : undefined
}

/** @returns the position of the quote that ends the string, or the last byte's */
function endOfString(json: Buffer, quoteAt: number): number {
  for (let at = quoteAt + 1; at < json.length; at++) {
    const byte = json[at]
    if (byte === QUOTE) return at
    if (byte === BACKSLASH) at++
  }
  return json.length - 1
}

/** A name, with what is escaped in it. '' where it is none. */
function nameIn(json: Buffer, quoteAt: number, endAt: number): string {
  const text = json.toString('utf8', quoteAt + 1, endAt)
  if (!text.includes('\\')) return text
  try {
    return JSON.parse(`"${text}"`) as string
  } catch {
    return ''
  }
}

/** The same value, with the payloads of its messages as they were written. @param value the JSON, parsed */
export function withPayloadsAsWritten(value: unknown, json: Buffer, { places }: Scan): unknown {
  if (places.size === 0 || !isObject(value)) return value
  const keep = (message: unknown, found: Places | undefined) => {
    if (found === undefined || !isObject(message)) return
    for (const [name, [start, end]] of Object.entries(found)) {
      if (Object.hasOwn(message, name)) message[name] = new WrittenJson(message[name], json.toString('utf8', start, end).trim())
    }
  }
  keep(value, places.get(BODY))
  keep(value['message'], places.get(MESSAGE))
  const { messages } = value
  if (Array.isArray(messages)) for (const [i, message] of messages.entries()) keep(message, places.get(i))
  return value
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}
