/** What the texts of the environment are read as. */
import { isIP } from 'node:net'
import { z } from 'zod'

export const flag = z
  .enum(['true', 'false', '1', '0', ''])
  .default('false')
  .transform((text) => text === 'true' || text === '1')

export const integer = (minimum: number, maximum: number, fallback: number) =>
  z.string().default(String(fallback)).transform(Number).pipe(z.number().int().min(minimum).max(maximum))

const partsOf = (text: string): string[] =>
  text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')

export const list = z.string().default('').transform(partsOf)

export const ports = (fallback: string) =>
  z
    .string()
    .default(fallback)
    .transform((text) => partsOf(text).map(Number))
    .pipe(z.array(z.number('takes port numbers').int().min(1).max(65_535)).min(1))

function isNameServer(text: string): boolean {
  const [, bracketed, plain] = /^(?:\[([^\]]+)\]|([^:]+))(?::\d{1,5})?$/.exec(text) ?? []
  return isIP(bracketed ?? plain ?? text) !== 0
}

export const nameServers = list.refine((servers) => servers.every(isNameServer), 'takes addresses, or address:port')

/** An http or https URL without credentials in it unless they are asked for. */
export const webUrl = (options: { credentials: boolean }) =>
  z
    .url({ protocol: /^https?$/, error: 'must be an http:// or https:// URL' })
    .transform((text) => new URL(text))
    .refine((url) => options.credentials || (url.username === '' && url.password === ''), 'must hold no user name or password')

/** What members of one cluster have in common. */
const sharedPart = (text: string): string => {
  const { username, password, pathname, search } = new URL(text)
  return JSON.stringify([username, password, pathname, search])
}

export const postgresUrlList = list.refine(
  (urls) => urls.every((url) => /^postgres(ql)?:\/\//.test(url) && URL.canParse(url)),
  'takes postgres:// URLs',
)

/** Members of one Postgres cluster: addresses that differ in host and port alone. */
export const postgresUrls = postgresUrlList.refine(
  (urls) => !urls.every((url) => URL.canParse(url)) || new Set(urls.map(sharedPart)).size <= 1,
  'takes members of one cluster: user, password, database and parameters must be the same',
)

/** Replicas, which are told apart by host and port. */
export const replicaUrls = postgresUrlList.refine((urls) => {
  const hosts = urls.filter((url) => URL.canParse(url)).map((url) => new URL(url).host)
  return new Set(hosts).size === hosts.length
}, 'takes each host and port once')

const isOrigin = (text: string): boolean => text === '*' || (URL.canParse(text) && new URL(text).origin === text)

export const origins = list.refine((all) => all.every(isOrigin), 'takes origins such as https://app.example.com, or *')

const SECRET_MIN_CHARS = 32
const DISTINCT_CHARS_MIN = 10

/** Placeholders of examples and tutorials, and what the tests of this repository sign with. */
const KNOWN =
  /change.?(me|this|it)|replace.?(me|this|with)|your.{0,20}(secret|key)|example|placeholder|default|password|test.?(suite|secret|key)/i

/** Why a text is no secret that a service may run on; undefined where nothing speaks against it. */
export function weaknessOf(text: string): string | undefined {
  if (KNOWN.test(text)) return 'is a known placeholder: generate one, for example with openssl rand -base64 32'
  if (new Set(text).size < DISTINCT_CHARS_MIN) return `needs at least ${DISTINCT_CHARS_MIN} different characters`
  return undefined
}

const tooShort = `needs at least ${SECRET_MIN_CHARS} characters`

export const secret = z.string().min(SECRET_MIN_CHARS, tooShort)
export const secrets = list.refine((all) => all.every((one) => one.length >= SECRET_MIN_CHARS), tooShort)
