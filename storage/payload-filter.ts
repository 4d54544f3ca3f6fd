import { Environment, type ASTNode, type ParseResult } from '@marcbachmann/cel-js'
import { LIMITS } from '../domain/limits.ts'
import type { PayloadFilter } from '../domain/routing.ts'

/** A filter that cannot be used; the message says why, for its author. */
export class FilterError extends Error {
  readonly code = 'filter_refused'
  override readonly name = 'FilterError'
}

type FilteredMessage = Parameters<PayloadFilter>[0]

const VARIABLES = { payload: 'map', eventType: 'string', channels: 'list<string>' } as const

// Without optional types, and without anything of this service within reach.
const environment = new Environment({ limits: { maxAstNodes: LIMITS.filterMaxNodes, maxDepth: LIMITS.filterMaxDepth } })
for (const [name, type] of Object.entries(VARIABLES)) environment.registerVariable(name, type)

/** Functions whose time is bounded by the length of what they are given. `matches` is not: regular expressions can backtrack. */
const FUNCTIONS = new Set(['has', 'size', 'int', 'double', 'string', 'bool', 'timestamp', 'duration'])
const METHODS = new Set(['size', 'contains', 'startsWith', 'endsWith', 'lowerAscii', 'upperAscii', 'trim'])
const MACROS = new Set(['exists', 'exists_one', 'all'])

/**
 * Compiles a filter: a CEL expression over `payload`, `eventType` and `channels` that says whether an endpoint gets a message.
 * Its time is linear in the payload: a macro goes over a part of the payload, and its body sees its own variable alone.
 * @param onFailure told when an evaluation has failed, for example on a field that is not there: the message is not taken
 * @throws {FilterError}
 */
export function compileFilter(text: string, onFailure: () => void = () => undefined): PayloadFilter {
  const expression = parse(text)
  return (message) => {
    const payload = payloadOf(message)
    if (payload === undefined) return false
    try {
      return expression({ payload, eventType: message.eventType, channels: message.channels ?? [] }) === true
    } catch {
      onFailure()
      return false
    }
  }
}

function parse(text: string): ParseResult {
  if (text.length > LIMITS.filterMaxChars) throw new FilterError(`A filter has at most ${LIMITS.filterMaxChars} characters`)
  let expression: ParseResult
  try {
    expression = environment.parse(text)
  } catch (error) {
    throw new FilterError(firstLine(error))
  }
  requireLinear(expression.ast, new Set(Object.keys(VARIABLES)))
  const { valid, type, error } = expression.check()
  if (!valid) throw new FilterError(firstLine(error))
  if (type !== 'bool' && type !== 'dyn') throw new FilterError(`A filter must be true or false, this one is of type ${type}`)
  return expression
}

function firstLine(error: unknown): string {
  return error instanceof Error ? error.message.split('\n')[0]! : 'not a CEL expression'
}

/** @throws {FilterError} where the time of an evaluation is not bounded by the expression's length times the payload's */
function requireLinear(node: ASTNode, variables: ReadonlySet<string>): void {
  if (node.op === 'id' && !variables.has(node.args)) {
    throw new FilterError(`${node.args} cannot be used here, only ${[...variables].join(', ')}`)
  }
  if (node.op === 'call' && !FUNCTIONS.has(node.args[0])) throw refused(node.args[0])
  if (node.op === 'rcall') {
    const [name, receiver, [variable, body, ...others]] = node.args
    if (MACROS.has(name) && variable?.op === 'id' && body !== undefined && others.length === 0) {
      if (!isPath(receiver)) throw new FilterError(`${name} goes over a part of the payload, such as payload.items`)
      requireLinear(receiver, variables)
      requireLinear(body, new Set([variable.args]))
      return
    }
    if (!METHODS.has(name)) throw refused(name)
  }
  for (const child of childrenOf(node)) requireLinear(child, variables)
}

function refused(name: string): FilterError {
  return new FilterError(`${name} is not available in filters`)
}

/** Whether the value is a part of a variable, so that it is no larger. */
function isPath(node: ASTNode): boolean {
  if (node.op === '.') return isPath(node.args[0])
  if (node.op === '[]') return isPath(node.args[0]) && node.args[1].op === 'value'
  return node.op === 'id'
}

function childrenOf(node: ASTNode): ASTNode[] {
  const args: unknown = node.args
  return (Array.isArray(args) ? args.flat(2) : [args]).filter(isNode)
}

function isNode(value: unknown): value is ASTNode {
  return typeof value === 'object' && value !== null && 'op' in value && 'args' in value
}

// The endpoints of an application are asked about one message after the other: its text is parsed once for all of them.
let last: { readonly message: FilteredMessage; readonly payload: object | undefined } | undefined

/** @returns undefined where there is no object to look into */
function payloadOf(message: FilteredMessage): object | undefined {
  if (last?.message === message) return last.payload
  const payload = parsePayload(message.payload)
  last = { message, payload }
  // Nothing of it outlives its routing: an expunged payload leaves the memory of every process.
  queueMicrotask(() => (last = undefined))
  return payload
}

function parsePayload(text: string | null): object | undefined {
  if (text === null) return undefined
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
  } catch {
    // A raw payload need not be JSON.
    return undefined
  }
}
