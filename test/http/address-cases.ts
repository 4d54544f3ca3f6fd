/** What the guard says of a URL without DNS: a part of its reason, or that it may be tried. */
export type Verdict =
  | 'allowed'
  | 'not valid'
  | 'must begin with'
  | 'user name or a password'
  | 'port'
  | 'unspecified'
  | 'loopback'
  | 'private'
  | 'link-local'
  | 'metadata'
  | 'shared by a carrier'
  | 'multicast'
  | 'broadcast'
  | 'reserved'
  | 'IPv4-compatible'
  | 'translated'
  | 'NAT64'
  | '6to4'
  | 'Teredo'

/** Hosts by verdict, for URLs `http://<host>/`. */
const HOSTS: Readonly<Partial<Record<Verdict, string>>> = {
  // Every way in which the URL standard lets 127.0.0.1 be written: parts left out, octal, hexadecimal, one number, escapes,
  // full-width digits, other dots, a dot at the end.
  loopback: `127.0.0.1 127.0.0.0x 127.1 127.0.1 127.255.255.254 127.0.0.1. 127.0.0.53 127.127.127.127 127.000.000.001 127.00000.1
    2130706433 2130706434 2147483646 017700000001 00017700000001 0177.1 0177.0.0.1 0177.0.0.0x1 0177.0.0.01 0x7f000001 0X7F000001 0x7F.1
    0x7f.1 0x7f.0x0.0x0.0x1 0x000000007f.1 0x7f.0.01 0x7f000001. 0x7f.0.0.1 127.0x1 127.0x0.1 127.0.0x0.01
    %31%32%37.0.0.1 %31%32%37%2e%30%2e%30%2e%31 127%2e0%2e0%2e1 127.0.0.%31 １２７.0.0.1 １２７．０．０．１ 127。0。0。1 127．0．0．1 127｡0｡0｡1
    ①②⑦.0.0.1 ⓪x7f.1 0ｘ7f.1 𝟏𝟐𝟕.0.0.1 𝟙𝟚𝟟.𝟘.𝟘.𝟙 1２7.0.0.1 127.0.0.1%2e
    [::1] [0:0:0:0:0:0:0:1] [0000:0000:0000:0000:0000:0000:0000:0001] [::0001] [0::1] [::0:1] [::0.0.0.1]
    [::ffff:127.0.0.1] [::FFFF:127.0.0.1] [::ffff:7f00:1] [::FfFf:7F00:0001] [0:0:0:0:0:ffff:127.0.0.1] [::ffff:127.255.0.9]`,
  private: `10.0.0.1 10.1 10.255.255.255 10.0.0.0 0xa.1 0x0a000001 012.0.0.1 167772161 012.1 0xA.0xB.0xC.0xD １０.0.0.1 10。1
    172.16.0.1 172.31.255.255 172.16.1 0xac.0x10.0.1 2886729729 0254.020.0.1 172.31.65535
    192.168.0.1 192.168.1.1 192.168.255.255 192.168.1 3232235777 0xc0a80101 0300.0250.1.1 0xc0.0xa8.1.1 030052000401 192。168。1。1
    [::ffff:10.0.0.1] [::ffff:a00:1] [::ffff:192.168.0.1] [::ffff:c0a8:1] [0:0:0:0:0:ffff:192.168.0.1] [::ffff:172.16.0.1]
    [fc00::1] [fc00::] [fd00::1] [fd12:3456::1] [FD12:3456::1] [fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff] [fd00:ec2::253] [fec0::1] [feff::1]`,
  'link-local': `169.254.0.1 169.254.1.1 169.254.255.255 169.254.169.253 169.254.169.255 0xa9.0xfe.1.1 2851995905
    [::ffff:169.254.1.1] [fe80::1] [FE80::1] [fe80::a9fe:a9fe] [febf:ffff::1]`,
  metadata: `169.254.169.254 0xa9fea9fe 2852039166 0251.0376.0251.0376 0251.254.169.254 169.254.43518 169.16689662 169.254.169.254.
    １６９.254.169.254 169。254。169。254 [::ffff:169.254.169.254] [::ffff:a9fe:a9fe] [0:0:0:0:0:FFFF:A9FE:A9FE]
    169.254.170.2 169.254.170.23 168.63.129.16 0xa83f8110 2822734096 [::ffff:168.63.129.16] 100.100.100.200 192.0.0.192
    [fd00:ec2::254] [FD00:EC2:0:0:0:0:0:254] [fd00:ec2::23] [fd20:ce::254]
    metadata metadata.google.internal METADATA.google.internal metadata.google.internal. metadata.goog ｍetadata.google.internal
    metadata。google。internal metadata.azure.internal instance-data instance-data.ec2.internal metadata.tencentyun.com`,
  'shared by a carrier': `100.64.0.1 100.64.0.0 100.127.255.255 0x64.0x40.0.1 1681915905 100.100.100.201 [::ffff:100.64.0.1]`,
  unspecified: `0 0.0.0.0 0x0 00 0.0 0x0.0x0.0 0.1.2.3 0.255.255.255 ０ [::] [0:0:0:0:0:0:0:0] [::0] [::ffff:0.0.0.0] [::0.0.0.0]`,
  multicast: `224.0.0.1 239.255.255.250 0xe0000001 3758096385 [::ffff:224.0.0.1] [ff02::1] [FF0E::1] [ff00::] [ff05::1:3]`,
  broadcast: `255.255.255.255 0xffffffff 4294967295 037777777777 [::ffff:255.255.255.255]`,
  reserved: `192.0.0.1 192.0.0.8 192.0.0.170 192.0.2.1 198.51.100.7 203.0.113.7 198.18.0.1 198.19.255.255 192.88.99.1 240.0.0.1 254.255.255.255
    [::ffff:192.0.2.1] [100::1] [2001:db8::1] [3fff::1] [5f00::1] [4000::1] [1::1] [8000::1] [e000::1] [2001:2::1] [2001:20::1]
    [64:ff9b:2::1] [::1:0:0:1] [0:0:0:1::1]`,
  'IPv4-compatible': `[::127.0.0.1] [::7f00:1] [::8.8.8.8] [::10.0.0.1] [::a9fe:a9fe] [::2] [::ffff]`,
  translated: `[::ffff:0:127.0.0.1] [::ffff:0:8.8.8.8] [::ffff:0:a00:1]`,
  NAT64: `[64:ff9b:1::10.0.0.1] [64:ff9b:1::8.8.8.8] [64:ff9b::127.0.0.1] [64:ff9b::a00:1] [64:ff9b::8.8.8.8] [64:ff9b::169.254.169.254] [64:FF9B:0:0:0:0:7F00:1]`,
  '6to4': `[2002:7f00:1::] [2002:a00:1::1] [2002:c0a8:101::1] [2002:a9fe:a9fe::] [2002:808:808::1]`,
  Teredo: `[2001:0:4136:e378:8000:63bf:3fff:fdd2] [2001::1] [2001:0:808:808::f5ff:fffe]`,
  'not valid': `1.2.3.256 0x100000000 4294967296 256.1.1.1 1.2.3.4.5 1.2.3.08 [::1%25lo] [fe80::1%25eth0] [fe80::1%eth0] [::1%lo]
    [127.0.0.1] [::ffff:127.0.0.256] [::ffff:1.2.3] [1::2::3] [:1] [::g] [::1 127.0.0.1%00 exam%00ple.com exa%23mple.com a%2fb 09.1.1.1 0xg.1
    -:- ex<ample.com ex|ample.com %zz`,
  allowed: `example.com EXAMPLE.com example.com. sub.example.co.uk xn--bcher-kva.example bücher.example faß.example
    8.8.8.8 1.1.1.1 134744072 0x08080808 010.8.8.8 9.255.255.255 11.0.0.1 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1
    169.253.255.255 169.255.0.1 172.15.255.255 172.32.0.1 192.167.255.255 192.169.0.1 192.0.3.1 198.17.255.255 198.20.0.1 223.255.255.255
    [::ffff:8.8.8.8] [2606:4700:4700::1111] [2a00:1450::1] [2620:fe::fe] [2003::1] 127.0.0.1.nip.io localhost.example.com 127.0.0.1.example.com
    localhost metadata.example.com x7f.1.example 0x7f.1.example`,
}

/** Whole URLs: schemes, credentials, ports, and what a parser could read in two ways. */
const URLS: readonly (readonly [string, Verdict])[] = [
  ['not a url', 'not valid'],
  ['', 'not valid'],
  ['//example.com/', 'not valid'],
  ['http://', 'not valid'],
  ['https://:443/', 'not valid'],
  ['http://example.com:99999/', 'not valid'],
  ['http://example.com:-1/', 'not valid'],
  ['http://example.com:8o/', 'not valid'],
  ['ftp://example.com/', 'must begin with'],
  ['file:///etc/passwd', 'must begin with'],
  ['file://127.0.0.1/c$', 'must begin with'],
  ['gopher://127.0.0.1:6379/_INFO', 'must begin with'],
  ['javascript:alert(1)', 'must begin with'],
  ['data:text/plain,x', 'must begin with'],
  ['ws://example.com/', 'must begin with'],
  ['wss://example.com/', 'must begin with'],
  ['unix:/var/run/docker.sock', 'must begin with'],
  ['http+unix://%2Fvar%2Frun%2Fdocker.sock/', 'must begin with'],
  ['blob:https://example.com/x', 'must begin with'],
  ['view-source:http://example.com', 'must begin with'],
  ['https://user:secret@example.com/', 'user name or a password'],
  ['https://user@example.com/', 'user name or a password'],
  ['https://:secret@example.com/', 'user name or a password'],
  ['https://example.com@127.0.0.1/', 'user name or a password'],
  ['https://example.com%40127.0.0.1:80@8.8.8.8/', 'user name or a password'],
  ['http://1.1.1.1 &@2.2.2.2# @3.3.3.3/', 'user name or a password'],
  ['http://example.com:80@127.0.0.1/', 'user name or a password'],
  ['https://@example.com/', 'allowed'],
  ['http:\\\\127.0.0.1\\', 'loopback'],
  ['http:127.0.0.1', 'loopback'],
  ['http:/127.0.0.1/', 'loopback'],
  ['http:////127.0.0.1/', 'loopback'],
  ['http:///127.0.0.1/', 'loopback'],
  ['HTTP://127.0.0.1/', 'loopback'],
  [' \thttp://127.0.0.1/ \n', 'loopback'],
  ['ht\ntp://127.0\t.0.1/', 'loopback'],
  ['http://127.0.0.1\\@example.com/', 'loopback'],
  ['http://127.0.0.1#@example.com/', 'loopback'],
  ['http://127.0.0.1?@example.com/', 'loopback'],
  ['http://127.0.0.1:80/', 'loopback'],
  ['https://127.0.0.1:443/', 'loopback'],
  ['http://127.0.0.1:22/', 'loopback'],
  ['http://[::1]:8080/', 'loopback'],
  ['http://2130706433:8443/', 'loopback'],
  ['http://\u200b127.0.0.1/', 'loopback'],
  ['http://127\u00ad.0.0.1/', 'loopback'],
  ['https://example.com/?url=http://127.0.0.1/', 'allowed'],
  ['https://example.com/http://127.0.0.1/', 'allowed'],
  ['https://example.com/#http://127.0.0.1/', 'allowed'],
  ['https://example.com', 'allowed'],
  ['http://example.com', 'allowed'],
  ['http://example.com:80/', 'allowed'],
  ['https://example.com:443/', 'allowed'],
  ['http://example.com:443/', 'allowed'],
  ['https://example.com:80/', 'allowed'],
  ['https://example.com:8443/', 'allowed'],
  ['http://example.com:8080/', 'allowed'],
  ['http://example.com:08080/', 'allowed'],
  ['http://example.com:/', 'allowed'],
  ['http://8.8.8.8:8080/', 'allowed'],
  ['http://example.com:22/', 'port'],
  ['http://example.com:25/', 'port'],
  ['http://example.com:022/', 'port'],
  ['https://example.com:0/', 'port'],
  ['http://example.com:3306/', 'port'],
  ['http://example.com:5432/', 'port'],
  ['http://example.com:6379/', 'port'],
  ['http://example.com:9200/', 'port'],
  ['http://example.com:65535/', 'port'],
  ['http://8.8.8.8:53/', 'port'],
  ['http://[2606:4700:4700::1111]:53/', 'port'],
  ['http://[::ffff:8.8.8.8]:7233/', 'port'],
]

/** Every case as `[url, verdict]`. */
export const ADDRESS_CASES: readonly (readonly [string, Verdict])[] = [
  ...Object.entries(HOSTS).flatMap(([verdict, hosts]) =>
    hosts.split(/\s+/).map((host) => [`http://${host}/hook`, verdict as Verdict] as const),
  ),
  ...URLS,
]
