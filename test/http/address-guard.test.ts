import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAddressGuard } from '../../http/address-guard.ts'
import { createAddressCheck, SubnetError } from '../../http/public-address.ts'

const guard = createAddressGuard({ allowSubnets: [], requireHttps: false })

const REFUSED_HOSTS = [
  '127.0.0.1',
  '127.1',
  '127.0.1',
  '127.255.255.254',
  '127.0.0.1.',
  '2130706433',
  '017700000001',
  '0x7f000001',
  '0x7f.1',
  '0177.0.0.1',
  '0x7f.0x0.0x0.0x1',
  '%31%32%37.0.0.1',
  '１２７.0.0.1',
  '127。0。0。1',
  '0',
  '0.0.0.0',
  '0.1.2.3',
  '10.0.0.1',
  '10.1',
  '012.0.0.1',
  '172.16.0.1',
  '172.31.255.255',
  '192.168.1.1',
  '3232235777',
  '169.254.169.254',
  '0xa9fea9fe',
  '2852039166',
  '169.254.170.2',
  '168.63.129.16',
  '100.64.0.1',
  '100.100.100.200',
  '192.0.0.192',
  '192.0.2.1',
  '198.18.0.1',
  '198.51.100.7',
  '203.0.113.7',
  '192.88.99.1',
  '224.0.0.1',
  '239.255.255.250',
  '240.0.0.1',
  '255.255.255.255',
  '[::]',
  '[::1]',
  '[0:0:0:0:0:0:0:1]',
  '[::127.0.0.1]',
  '[::7f00:1]',
  '[::8.8.8.8]',
  '[::ffff:127.0.0.1]',
  '[::ffff:7f00:1]',
  '[::ffff:10.0.0.1]',
  '[::ffff:a9fe:a9fe]',
  '[0:0:0:0:0:ffff:192.168.0.1]',
  '[::ffff:0:127.0.0.1]',
  '[64:ff9b::127.0.0.1]',
  '[64:ff9b::a00:1]',
  '[64:ff9b:1::10.0.0.1]',
  '[2002:7f00:1::]',
  '[2002:a00:1::1]',
  '[2001:0:4136:e378:8000:63bf:3fff:fdd2]',
  '[fe80::1]',
  '[fec0::1]',
  '[fc00::1]',
  '[fd00:ec2::254]',
  '[fd12:3456::1]',
  '[ff02::1]',
  '[100::1]',
  '[2001:db8::1]',
  '[3fff::1]',
  '[5f00::1]',
  '[4000::1]',
] as const

for (const host of REFUSED_HOSTS) {
  test(`a URL with the host ${host} is refused`, () => {
    assert.match(guard.check(`http://${host}:8080/hook`) ?? 'allowed', /^the address .+ is .+; TIDINGS_ALLOW_SUBNETS opens ranges$/)
  })
}

for (const host of [
  'example.com',
  '8.8.8.8',
  '1.1.1.1',
  '134744072',
  '[2606:4700:4700::1111]',
  '[::ffff:8.8.8.8]',
  '172.32.0.1',
  '11.0.0.1',
]) {
  test(`a URL with the host ${host} is allowed as far as it can be told without DNS`, () => {
    assert.equal(guard.check(`https://${host}/hook`), undefined)
  })
}

const REFUSED_URLS: readonly (readonly [string, RegExp])[] = [
  ['not a url', /not valid/],
  ['http://[fe80::1%25eth0]/', /not valid/],
  ['http://[fe80::1%eth0]/', /not valid/],
  ['http://1.2.3.256/', /not valid/],
  ['http://0x100000000/', /not valid/],
  ['ftp://example.com/', /must begin with/],
  ['file:///etc/passwd', /must begin with/],
  ['gopher://127.0.0.1/', /must begin with/],
  ['javascript:alert(1)', /must begin with/],
  ['https://user:secret@example.com/', /user name or a password/],
  ['https://user@example.com/', /user name or a password/],
  ['http:\\\\127.0.0.1\\', /loopback/],
  ['http:127.0.0.1', /loopback/],
]

for (const [url, reason] of REFUSED_URLS) {
  test(`the URL ${url} is refused`, () => assert.match(guard.check(url) ?? 'allowed', reason))
}

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
