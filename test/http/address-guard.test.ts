import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAddressGuard } from '../../http/address-guard.ts'
import { createAddressCheck, SubnetError } from '../../http/public-address.ts'
import { ADDRESS_CASES } from './address-cases.ts'

const PORTS = [80, 443, 8080, 8443]
const guard = createAddressGuard({ allowSubnets: [], allowPorts: PORTS, requireHttps: false })

for (const [url, verdict] of ADDRESS_CASES) {
  test(`the URL ${JSON.stringify(url)}: ${verdict}`, () => {
    const refusal = guard.check(url)
    if (verdict === 'allowed') assert.equal(refusal, undefined)
    else assert.ok(refusal?.includes(verdict), refusal ?? 'allowed')
  })
}

test('an address is refused on every port, with the reason that has to be mended first', () => {
  assert.match(guard.check('http://127.0.0.1:22/') ?? '', /is loopback; TIDINGS_ALLOW_SUBNETS opens ranges$/)
  assert.match(guard.check('http://8.8.8.8:22/') ?? '', /^the port 22 is not allowed; TIDINGS_ALLOW_PORTS opens ports$/)
})

test('an opened range is open on every port, and a name is judged by the addresses that it has', async () => {
  const addresses = { inside: ['10.1.2.3'], outside: ['8.8.8.8'], both: ['8.8.8.8', '10.1.2.3'], deeper: ['10.9.9.9'] }
  const resolve = (name: string) => Promise.resolve(addresses[name as keyof typeof addresses])
  const open = createAddressGuard({ allowSubnets: ['10.1.0.0/16'], allowPorts: PORTS, requireHttps: false, resolve })
  assert.equal(open.check('http://10.1.2.3:9000/'), undefined)
  assert.match(open.check('http://8.8.8.8:9000/') ?? '', /port 9000/)
  for (const name of Object.keys(addresses)) assert.equal(open.check(`http://${name}:9000/`), undefined, name)
  assert.deepEqual(await open.addressesOf('inside', 9000), ['10.1.2.3'])
  assert.deepEqual(await open.addressesOf('both', 9000), ['10.1.2.3'])
  assert.deepEqual(await open.addressesOf('both', 443), ['8.8.8.8', '10.1.2.3'])
  await assert.rejects(open.addressesOf('outside', 9000), /port 9000 is not allowed/)
  await assert.rejects(open.addressesOf('deeper', 9000), /leads to an address that is private/)
})

test('a metadata service is opened by its own address, and not by a range around it', () => {
  const ranges = createAddressGuard({ allowSubnets: ['169.254.0.0/16', 'fd00::/8', '0.0.0.0/0'], requireHttps: false })
  for (const host of ['169.254.169.254', '[fd00:ec2::254]', '168.63.129.16', '[::ffff:169.254.169.254]', 'metadata.google.internal']) {
    assert.match(ranges.check(`http://${host}/`) ?? 'allowed', /metadata/, host)
  }
  assert.equal(ranges.check('http://169.254.1.1/'), undefined)
  const single = createAddressGuard({ allowSubnets: ['169.254.169.254'], requireHttps: false })
  assert.equal(single.check('http://169.254.169.254/'), undefined)
})

test('https is required where the operator says so', () => {
  const strict = createAddressGuard({ allowSubnets: [], requireHttps: true })
  assert.match(strict.check('http://example.com/') ?? '', /https:\/\//)
  assert.equal(strict.check('https://example.com/'), undefined)
})

test('an opened range is allowed in every form of its addresses, and nothing beside it', () => {
  const open = createAddressGuard({ allowSubnets: ['127.0.0.0/8', 'fd00::/8', '10.1.2.3'], requireHttps: false })
  for (const host of ['127.0.0.1', '2130706433', '[::ffff:127.0.0.1]', '[fd00::7]', '10.1.2.3']) {
    assert.equal(open.check(`http://${host}/`), undefined, host)
  }
  for (const host of ['10.1.2.4', '[::1]', '192.168.0.1', '0.0.0.0']) assert.notEqual(open.check(`http://${host}/`), undefined, host)
})

test('an entry that is no address range is named', () => {
  assert.throws(() => createAddressCheck(['10.0.0.0/8', '10.0.0.0/64']), SubnetError)
  assert.throws(() => createAddressCheck(['localhost']), /"localhost" is not an address range/)
})

test('an allowed origin is exempt below its path only', () => {
  const inbox = createAddressGuard({ allowSubnets: [], requireHttps: true, allowedOrigins: ['http://127.0.0.1:8071/inbox/'] })
  const exempt = ['http://127.0.0.1:8071/inbox/first', 'http://127.0.0.1:8071/inbox/', 'http://2130706433:8071/inbox/a?b=c']
  for (const url of exempt) assert.equal(inbox.check(url), undefined, url)
  const refused = [
    'http://127.0.0.1:8071/api/v1/app',
    'http://127.0.0.1:8071/inbox/../api/v1/app',
    'http://127.0.0.1:8071/inbox/%2e%2e/api/v1/app',
    'http://127.0.0.1:8071/inbox\\..\\api',
    'http://127.0.0.1:8071/inboxes/a',
    'http://127.0.0.1:8072/inbox/a',
    'http://127.0.0.1/inbox/a',
    'http://127.0.0.2:8071/inbox/a',
    'http://user@127.0.0.1:8071/inbox/a',
    'https://127.0.0.1:8071/inbox/a',
    'http://[::1]:8071/inbox/a',
  ]
  for (const url of refused) assert.notEqual(inbox.check(url), undefined, url)
})

interface LookedUp {
  readonly error: NodeJS.ErrnoException | null
  readonly addresses: readonly string[]
}

function lookUp(resolved: readonly string[], options: { all: boolean; family?: number }): Promise<LookedUp> {
  const lookup = createAddressGuard({ allowSubnets: [], requireHttps: false, resolve: () => Promise.resolve(resolved) }).lookupFor(443)
  return new Promise((resolve) => {
    lookup('example.com', options, (error, address) => {
      resolve({ error, addresses: typeof address === 'string' ? [address] : address.map((one) => one.address) })
    })
  })
}

test('a look-up gives only the public addresses of a name', async () => {
  const { addresses } = await lookUp(['10.0.0.1', '8.8.8.8', 'fe80::1%eth0', '2606:4700::1111'], { all: true })
  assert.deepEqual(addresses, ['8.8.8.8', '2606:4700::1111'])
  assert.deepEqual((await lookUp(['8.8.8.8', '2606:4700::1111'], { all: false, family: 6 })).addresses, ['2606:4700::1111'])
})

test('a name with no public address is blocked, and its addresses are not told', async () => {
  const { error } = await lookUp(['10.20.30.40'], { all: true })
  assert.equal(error?.code, 'address_blocked')
  assert.match(error.message, /leads to an address that is private; TIDINGS_ALLOW_SUBNETS/)
  assert.doesNotMatch(error.message, /10\.20/)
})

test('a name without addresses is not found, which is no refusal', async () => {
  assert.equal((await lookUp([], { all: true })).error?.code, 'ENOTFOUND')
})
