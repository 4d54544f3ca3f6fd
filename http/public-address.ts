import ipaddr from 'ipaddr.js'

type Address = ipaddr.IPv4 | ipaddr.IPv6
type Subnet = [Address, number]

/** Deprecated IPv4-compatible (::a.b.c.d) addresses embed an IPv4 address that routers of the machine may unwrap. */
const IPV4_COMPATIBLE = ipaddr.parseCIDR('::/96')

/** Only this part of IPv6 is assigned for global unicast (RFC 4291); the rest is refused whatever it is called. */
const GLOBAL_IPV6 = ipaddr.parseCIDR('2000::/3')

/** Amazon (instances, containers, IPv6), Oracle, Alibaba, Google's IPv6, and the host agent of Azure on a public address. */
const METADATA = new Set([
  '169.254.169.254',
  '169.254.170.2',
  '169.254.170.23',
  '192.0.0.192',
  '100.100.100.200',
  '168.63.129.16',
  'fd00:ec2::254',
  'fd00:ec2::23',
  'fd20:ce::254',
])

const METADATA_SERVICE = 'a cloud metadata service'

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

export interface AddressCheck {
  /** Says what an address is that may not be reached ("private", "loopback"); undefined where it may be. */
  refusal(address: string): string | undefined
  /** Whether the address may be reached because the operator opened it, not because it is public. */
  isOpened(address: string): boolean
}

/**
 * Makes the check of numeric addresses: public ones pass, and those in the subnets that the operator opened. A metadata
 * service is opened by its own address only, not by a range around it.
 * @param allowSubnets CIDRs or single addresses
 * @throws {SubnetError} naming the entry that is neither
 */
export function createAddressCheck(allowSubnets: readonly string[]): AddressCheck {
  const allowed = allowSubnets.map(parseSubnet)
  const opens = (address: Address): boolean => {
    const candidates = isMetadata(address) ? allowed.filter(isSingle) : allowed
    return candidates.some((subnet) => matches(address, subnet))
  }
  // A mapped address (::ffff:a.b.c.d) is judged as the IPv4 address that the system connects to.
  return {
    refusal: (text) => {
      if (!ipaddr.isValid(text)) return 'not understood'
      const address = ipaddr.process(text)
      return opens(address) ? undefined : whyNotPublic(address)
    },
    isOpened: (text) => ipaddr.isValid(text) && opens(ipaddr.process(text)),
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

function isSingle([network, prefix]: Subnet): boolean {
  return prefix === (network.kind() === 'ipv4' ? 32 : 128)
}

function isMetadata(address: Address): boolean {
  return METADATA.has(address.toString())
}

function whyNotPublic(address: Address): string | undefined {
  if (isMetadata(address)) return METADATA_SERVICE
  const range = address.range()
  if (range !== 'unicast') return RANGE_NAMES[range] ?? 'reserved'
  if (matches(address, IPV4_COMPATIBLE)) return 'an IPv4-compatible address'
  return address.kind() === 'ipv6' && !matches(address, GLOBAL_IPV6) ? 'reserved' : undefined
}

/** Names under which clouds serve credentials of a machine inside its network. */
const METADATA_NAMES = new Set([
  'metadata',
  'metadata.google.internal',
  'metadata.goog',
  'metadata.azure.internal',
  'metadata.platformequinix.com',
  'metadata.packet.net',
  'metadata.tencentyun.com',
  'instance-data',
  'instance-data.ec2.internal',
])

/** Says why a host name may not be reached whatever it resolves to; undefined where its addresses decide. */
export function refusedName(hostname: string): string | undefined {
  return METADATA_NAMES.has(hostname.replace(/\.+$/, '').toLowerCase()) ? METADATA_SERVICE : undefined
}
