import ipaddr from 'ipaddr.js'

type Address = ipaddr.IPv4 | ipaddr.IPv6
type Subnet = [Address, number]

/**
 * Ranges that `ipaddr.js` calls unicast and that must not be reached all the same.
 * - 168.63.129.16 is the host agent of every Azure machine, on a public address.
 * - Deprecated IPv4-compatible (::a.b.c.d) addresses embed an IPv4 address that routers of the machine may unwrap.
 */
const REFUSED_BESIDES: readonly (readonly [string, string])[] = [
  ['168.63.129.16/32', 'a cloud metadata service'],
  ['::/96', 'an IPv4-compatible address'],
]

/** Only this part of IPv6 is assigned for global unicast (RFC 4291); the rest is refused whatever it is called. */
const GLOBAL_IPV6 = ipaddr.parseCIDR('2000::/3')

const METADATA = new Set(['169.254.169.254', '169.254.170.2', '192.0.0.192', '100.100.100.200', 'fd00:ec2::254', 'fd20:ce::254'])

const RANGE_NAMES: Readonly<Record<string, string>> = {
  unspecified: 'unspecified',
  broadcast: 'broadcast',
  multicast: 'multicast',
  linkLocal: 'link-local',
  loopback: 'loopback',
  carrierGradeNat: 'shared by a carrier',
  private: 'private',
  uniqueLocal: 'private',
  deprecatedSiteLocal: 'private',
  rfc6052: 'a NAT64 address',
  rfc6145: 'a translated IPv4 address',
  '6to4': 'a 6to4 address',
  teredo: 'a Teredo address',
}

const refusedBesides = REFUSED_BESIDES.map(([cidr, name]) => ({ subnet: ipaddr.parseCIDR(cidr), name }))

/** Says what an address is that may not be reached ("private", "loopback"), or undefined where it may be. */
export type AddressCheck = (address: string) => string | undefined

/**
 * Makes the check of a numeric address: public ones pass, and those in the subnets that the operator opened.
 * @param allowSubnets CIDRs or single addresses
 * @throws {SubnetError} naming the entry that is neither
 */
export function createAddressCheck(allowSubnets: readonly string[]): AddressCheck {
  const allowed = allowSubnets.map(parseSubnet)
  return (text) => {
    if (!ipaddr.isValid(text)) return 'not understood'
    // A mapped address (::ffff:a.b.c.d) is judged as the IPv4 address that the system connects to.
    const address = ipaddr.process(text)
    if (allowed.some((subnet) => matches(address, subnet))) return undefined
    return whyNotPublic(address)
  }
}

/** An entry of the allowed subnets is not an address range. */
export class SubnetError extends Error {
  readonly code = 'subnet_invalid'
  override readonly name = 'SubnetError'
}

function parseSubnet(text: string): Subnet {
  if (ipaddr.isValidCIDR(text)) return ipaddr.parseCIDR(text)
  if (ipaddr.isValid(text)) {
    const address = ipaddr.process(text)
    return [address, address.kind() === 'ipv4' ? 32 : 128]
  }
  throw new SubnetError(`TIDINGS_ALLOW_SUBNETS: "${text}" is not an address range, such as 10.0.0.0/8`)
}

function matches(address: Address, [network, prefix]: Subnet): boolean {
  return address.kind() === network.kind() && address.match(network, prefix)
}

function whyNotPublic(address: Address): string | undefined {
  if (METADATA.has(address.toString())) return 'a cloud metadata service'
  const besides = refusedBesides.find(({ subnet }) => matches(address, subnet))
  const range = address.range()
  if (range !== 'unicast') return RANGE_NAMES[range] ?? 'reserved'
  if (besides !== undefined) return besides.name
  return address.kind() === 'ipv6' && !matches(address, GLOBAL_IPV6) ? 'reserved' : undefined
}
