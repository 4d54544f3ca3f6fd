import { isIP, type LookupFunction } from 'node:net'
import { createAddressCheck, type AddressCheck } from './public-address.ts'
import { createResolve, type Resolve } from './resolve.ts'

export interface AddressGuardOptions {
  /** CIDRs (or single addresses) that may be reached besides public ones. */
  readonly allowSubnets: readonly string[]
  readonly requireHttps: boolean
  /** `http://host:port/path/`: URLs of exactly this origin whose path begins so are allowed whatever their address. */
  readonly allowedOrigins?: readonly string[]
  /** Replaced in tests. */
  readonly resolve?: Resolve
}

export interface AddressGuard {
  /** What needs no DNS: scheme, credentials, numeric addresses. Gives the reason for a refusal, or undefined. */
  check(url: string | URL): string | undefined
  /** Whether the URL is one of `allowedOrigins`; such requests must not share connections with guarded ones. */
  isExempt(url: URL): boolean
  /** The reason why this numeric address may not be reached. Node connects to one without a look-up, so connectors ask here. */
  checkAddress(address: string): string | undefined
  /** Resolves once and gives only addresses that were checked: what the socket connects to. */
  readonly lookup: LookupFunction
}

export const INVALID_URL = 'the URL is not valid'
const OPENS_RANGES = 'TIDINGS_ALLOW_SUBNETS opens ranges'

/** The guard refused the target: nothing was sent. The message is fit for the endpoint's owner. */
export class BlockedAddressError extends Error {
  readonly code = 'address_blocked'
  override readonly name = 'BlockedAddressError'
}

/**
 * Keeps deliveries away from what is not public: this machine, private networks, metadata services.
 * @throws {SubnetError} where an entry of `allowSubnets` is not an address range
 */
export function createAddressGuard(options: AddressGuardOptions): AddressGuard {
  const judge = createAddressCheck(options.allowSubnets)
  const checkAddress = (address: string): string | undefined => {
    const kind = judge(address)
    return kind === undefined ? undefined : `the address ${address} is ${kind}; ${OPENS_RANGES}`
  }
  const exemptions = (options.allowedOrigins ?? []).map((text) => new URL(text))
  const isExempt = (url: URL): boolean =>
    exemptions.some((exempt) => url.origin === exempt.origin && isBelow(url.pathname, exempt.pathname) && hasNoCredentials(url))
  return {
    isExempt,
    checkAddress,
    check: (given) => {
      const url = typeof given === 'string' ? URL.parse(given) : given
      if (url === null) return INVALID_URL
      if (isExempt(url)) return undefined
      return checkUrl(url, options.requireHttps) ?? checkHost(url, checkAddress)
    },
    lookup: guardedLookup(options.resolve ?? createResolve(), judge),
  }
}

function checkUrl(url: URL, requireHttps: boolean): string | undefined {
  if (url.protocol !== 'https:' && url.protocol !== 'http:') return 'the URL must begin with https:// or http://'
  if (requireHttps && url.protocol !== 'https:') return 'the URL must begin with https://'
  if (!hasNoCredentials(url)) return 'the URL must not hold a user name or a password'
  return undefined
}

function isBelow(path: string, prefix: string): boolean {
  return path === prefix || path.startsWith(prefix.endsWith('/') ? prefix : `${prefix}/`)
}

function hasNoCredentials(url: URL): boolean {
  return url.username === '' && url.password === ''
}

/** The URL parser has already turned octal, hexadecimal and dotless numbers into four decimal parts. */
function checkHost(url: URL, checkAddress: AddressGuard['checkAddress']): string | undefined {
  const host = url.hostname.startsWith('[') ? url.hostname.slice(1, -1) : url.hostname
  return isIP(host) === 0 ? undefined : checkAddress(host)
}

function guardedLookup(resolve: Resolve, judge: AddressCheck): LookupFunction {
  return (hostname, options, callback) => {
    const family = options.family === 4 || options.family === 6 ? options.family : 0
    resolve(hostname).then(
      (addresses) => {
        const safe = addresses.filter((address) => (family === 0 || isIP(address) === family) && judge(address) === undefined)
        const [first] = safe
        if (first === undefined) callback(whyNone(addresses, judge), '', 0)
        else if (options.all !== true) callback(null, first, isIP(first))
        else callback(null, withFamilies(safe))
      },
      (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), '', 0),
    )
  }
}

const withFamilies = (addresses: readonly string[]) => addresses.map((address) => ({ address, family: isIP(address) }))

/** A name's addresses are not repeated: owners of endpoints could read the layout of the operator's network off them. */
function whyNone(addresses: readonly string[], judge: AddressCheck): Error {
  const kind = addresses.map(judge).find((reason) => reason !== undefined)
  if (kind !== undefined) return new BlockedAddressError(`the host name leads to an address that is ${kind}; ${OPENS_RANGES}`)
  return Object.assign(new Error('the host name has no address'), { code: 'ENOTFOUND' })
}
