import { z } from 'zod'
import { LIMITS } from '../../domain/limits.ts'

/** What a parser of URLs drops silently: control characters, and spaces around. */
const BREAKS = /\p{Cc}|^ | $/u

function urlProblem(value: string): string | undefined {
  if (value.length > LIMITS.urlMaxChars) return `Endpoint URLs have at most ${LIMITS.urlMaxChars} characters`
  if (!URL.canParse(value) || BREAKS.test(value) || !value.isWellFormed()) return 'Endpoint URLs must be valid'
  const url = new URL(value)
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'Endpoint URL schemes must be http or https'
  if (url.username !== '' || url.password !== '') return 'Endpoint URLs must not carry credentials'
  return undefined
}

export const url = z
  .string()
  .superRefine((value, context) => {
    const problem = urlProblem(value)
    if (problem !== undefined) context.addIssue({ code: 'custom', message: problem })
  })
  .meta({
    format: 'uri',
    pattern: '^[hH][tT][tT][pP][sS]?:',
    minLength: 1,
    maxLength: LIMITS.urlMaxChars,
    description: 'Where to deliver: `http` or `https`, without credentials',
    example: 'https://example.com/webhook/',
  })
