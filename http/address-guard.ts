import { isIP, type LookupFunction } from 'node:net'
import { createAddressCheck, refusedName, type AddressCheck } from './public-address.ts'
import type { Resolve } from './name-cache.ts'
import { createResolve } from './resolve.ts'

export interface AddressGuardOptions {
  /** CIDRs (or single addresses) that may be reached besides public ones, on every port. */
  readonly allowSubnets: readonly string[]
  /** Ports of public addresses that may be reached; absent: every port. */
  readonly allowPorts?: readonly number[]
  readonly requireHttps: boolean
  /** `http://host:port/path/`: URLs of exactly this origin whose path begins so are allowed whatever their address. */
  readonly allowedOrigins?: readonly string[]
  /** Asked for the addresses of names; absent: the system's name servers. */
  readonly resolve?: Resolve
}

export interface AddressGuard {
  /** What needs no DNS: scheme, credentials, numeric addresses, ports. Gives the reason for a refusal, or undefined. */
  check(url: string | URL): string | undefined
  /** Whether the URL is one of `allowedOrigins`; such requests must not share connections with guarded ones. */
  isExempt(url: URL): boolean
  /** The reason why this numeric address may not be reached. Node connects to one without a look-up, so connectors ask here. */
  checkAddress(address: string, port: number): string | undefined
  /**
   * Resolves a name once, from memory where its time to live allows, and gives only addresses that may be reached on this port.
   * @throws {BlockedAddressError} where there is none among those that the name has
   */
  addressesOf(hostname: string, port: number): Promise<readonly string[]>
  /** The same as a look-up for Node's sockets, which then connect to what was checked and nothing else. */
  lookupFor(port: number): LookupFunction
}

export const INVALID_URL = 'the URL is not valid'
const OPENS_RANGES = 'TIDINGS_ALLOW_SUBNETS opens ranges'
const OPENS_PORTS = 'TIDINGS_ALLOW_PORTS opens ports'

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
  const addresses = createAddressCheck(options.allowSubnets)
  const ports = options.allowPorts === undefined ? undefined : new Set(options.allowPorts)
  const portRefusal = (port: number): string | undefined =>
    ports === undefined || ports.has(port) ? undefined : `the port ${port} is not allowed; ${OPENS_PORTS}`
  const checkAddress = (address: string, port: number): string | undefined => {
    const kind = addresses.refusal(address)
    if (kind !== undefined) return `the address ${address} is ${kind}; ${OPENS_RANGES}`
    return addresses.isOpened(address) ? undefined : portRefusal(port)
  }
  const checkHost = (url: URL): string | undefined => {
    const host = hostOf(url)
    if (isIP(host) !== 0) return checkAddress(host, portOf(url))
    const kind = refusedName(host)
    if (kind !== undefined) return `the host ${host} is ${kind}`
    // A name may lead into an opened subnet, where every port is allowed: then its addresses decide.
    return options.allowSubnets.length === 0 ? portRefusal(portOf(url)) : undefined
  }
  const exemptions = (options.allowedOrigins ?? []).map((text) => new URL(text))
  const isExempt = (url: URL): boolean =>
    exemptions.some((exempt) => url.origin === exempt.origin && isBelow(url.pathname, exempt.pathname) && hasNoCredentials(url))
  const resolve = options.resolve ?? createResolve()
  const addressesOf = async (hostname: string, port: number): Promise<readonly string[]> => {
    const known = await resolve(hostname)
    const safe = known.filter((address) => addresses.refusal(address) === undefined)
    if (safe.length === 0) throw whyNone(known, addresses)
    const refusal = portRefusal(port)
    const reachable = refusal === undefined ? safe : safe.filter((address) => addresses.isOpened(address))
    if (reachable.length === 0) throw new BlockedAddressError(refusal)
    return reachable
  }
  return {
    isExempt,
    checkAddress,
    check: (given) => {
      const url = typeof given === 'string' ? URL.parse(given) : given
      if (url === null) return INVALID_URL
      if (isExempt(url)) return undefined
      return checkUrl(url, options.requireHttps) ?? checkHost(url)
    },
    addressesOf,
    lookupFor: (port) => lookupOver((hostname) => addressesOf(hostname, port)),
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
function hostOf(url: URL): string {
  return url.hostname.startsWith('[') ? url.hostname.slice(1, -1) : url.hostname
}

/** URLs do not name the port that their scheme has anyway. */
export function portOf(url: { readonly port: string; readonly protocol: string }): number {
  if (url.port !== '') return Number(url.port)
  return url.protocol === 'https:' ? 443 : 80
}

function lookupOver(addressesOf: Resolve): LookupFunction {
  return (hostname, options, callback) => {
    const family = options.family === 4 || options.family === 6 ? options.family : 0
    addressesOf(hostname).then(
      (addresses) => {
        const usable = addresses.filter((address) => family === 0 || isIP(address) === family)
        const [first] = usable
        if (first === undefined) callback(noAddress(), '', 0)
        else if (options.all !== true) callback(null, first, isIP(first))
        else callback(null, withFamilies(usable))
      },
      (error: unknown) => callback(error instanceof Error ? error : new Error(String(error)), '', 0),
    )
  }
}

const withFamilies = (addresses: readonly string[]) => addresses.map((address) => ({ address, family: isIP(address) }))

/** A name's addresses are not repeated: owners of endpoints could read the layout of the operator's network off them. */
function whyNone(known: readonly string[], addresses: AddressCheck): Error {
  const kind = known.map((address) => addresses.refusal(address)).find((reason) => reason !== undefined)
  if (kind === undefined) return noAddress()
  return new BlockedAddressError(`the host name leads to an address that is ${kind}; ${OPENS_RANGES}`)
}

function noAddress(): Error {
  return Object.assign(new Error('the host name has no address'), { code: 'ENOTFOUND' })
}
