import assert from 'node:assert/strict'
import { test } from 'node:test'
import ipaddr from 'ipaddr.js'
import fc from 'fast-check'
import { createAddressCheck } from '../../http/public-address.ts'
import { kubernetesProgram, NO_PROGRAM } from '../support/kubernetes-programs.ts'
import { ofKind, render, valuesOf, type Manifest } from './chart.ts'

interface Block {
  readonly cidr: string
  readonly except?: readonly string[]
}

interface Rule {
  readonly ports?: readonly { readonly port: number | string; readonly protocol?: string }[]
  readonly to?: readonly { readonly ipBlock?: Block }[]
  readonly from?: readonly object[]
}

interface Policy {
  readonly policyTypes: readonly string[]
  readonly ingress?: readonly Rule[]
  readonly egress?: readonly Rule[]
}

const helm = kubernetesProgram('helm')
const skip = helm === undefined ? `helm ${NO_PROGRAM}` : false
const program = helm ?? ''

function policyOf(manifests: readonly Manifest[], name: string): Policy {
  const found = ofKind(manifests, 'NetworkPolicy').find(({ metadata }) => metadata.name === `hooks-tidings${name}`)
  assert.ok(found, name)
  return found.spec as Policy
}

function isIn(address: string, cidr: string): boolean {
  const one = ipaddr.parse(address)
  const [network, prefix] = ipaddr.parseCIDR(cidr)
  return one.kind() === network.kind() && one.match(network, prefix)
}

const permits = (blocks: readonly Block[], address: string) =>
  blocks.some(({ cidr, except = [] }) => isIn(address, cidr) && !except.some((one) => isIn(address, one)))

const blocksOf = ({ egress = [] }: Policy) => egress.flatMap(({ to = [] }) => to.flatMap(({ ipBlock }) => ipBlock ?? []))
const portsOf = (rules: readonly Rule[] = []) => rules.map(({ ports = [] }) => ports.map(({ port }) => port))

const addresses = fc.oneof(
  fc.ipV4(),
  fc
    .tuple(fc.integer({ min: 0x2000, max: 0x3fff }), fc.array(fc.integer({ min: 0, max: 0xffff }), { minLength: 7, maxLength: 7 }))
    .map(([first, rest]) => [first, ...rest].map((part) => part.toString(16)).join(':')),
  fc.constantFrom(
    '192.175.48.1',
    '192.31.196.1',
    '192.52.193.1',
    '2620:4f:8000::1',
    '169.254.169.254',
    '168.63.129.16',
    '100.100.100.200',
    '10.0.0.1',
    'fd00:ec2::254',
    '::1',
    '2001::1',
    '2001:db8::1',
    '2002:a00:1::',
  ),
)

test('workers reach public addresses only: none that the address guard refuses, every other one', { skip }, async () => {
  const blocks = blocksOf(policyOf(await render(program, []), '-workers'))
  const { refusal } = createAddressCheck([])
  fc.assert(
    fc.property(addresses, (address) => {
      const refused = refusal(address)
      assert.equal(permits(blocks, address), refused === undefined, `${address}: ${refused ?? 'public'}`)
    }),
    { numRuns: 5000 },
  )
})

test('the API reaches public addresses where there are several regions, and nowhere else', { skip }, async () => {
  const chosen = async (args: readonly string[]) => {
    const { podSelector } = policyOf(await render(program, args), '-workers') as Policy & {
      podSelector: { matchExpressions: readonly { values: readonly string[] }[] }
    }
    return podSelector.matchExpressions[0]!.values
  }
  assert.deepEqual(await chosen([]), ['dispatcher', 'fast', 'retry', 'slow'])
  assert.deepEqual(await chosen(valuesOf('everything')), ['api', 'all', 'dispatcher', 'fast', 'slow'])
})

test('what TIDINGS_ALLOW_SUBNETS and TIDINGS_ALLOW_PORTS open is open to workers', { skip }, async () => {
  const policy = policyOf(await render(program, valuesOf('everything')), '-workers')
  const [internet, subnets, proxy] = policy.egress ?? []
  assert.deepEqual(portsOf([internet!]), [[443, 8443]])
  assert.equal(subnets?.ports, undefined)
  assert.deepEqual(blocksOf({ policyTypes: [], egress: [subnets!] }), [
    { cidr: '10.20.0.0/16' },
    { cidr: '10.30.0.7/32' },
    { cidr: 'fd00:1::/64' },
  ])
  assert.deepEqual(portsOf([proxy!]), [[3128]])
})

test('other processes reach DNS, Postgres, Temporal and Redis; the API and metrics are all that is reached', { skip }, async () => {
  const plain = await render(program, [])
  const every = policyOf(plain, '')
  assert.deepEqual(every.policyTypes, ['Ingress', 'Egress'])
  assert.deepEqual(portsOf(every.egress), [[53, 53], [5432], [7233]])
  assert.deepEqual(portsOf(every.ingress), [['metrics']])
  assert.ok(
    every.ingress?.every(({ from = [] }) => from.length > 0),
    'metrics are for those that are named',
  )
  assert.deepEqual(portsOf(policyOf(plain, '-api').ingress), [['http']])
  const full = policyOf(await render(program, valuesOf('everything')), '')
  assert.deepEqual(portsOf(full.egress), [[53, 53], [6432], [7233], [6379], [5433], [8443], [4318]])
  assert.equal(full.ingress, undefined)
  const scaler = policyOf(await render(program, valuesOf('autoscaler')), '-autoscaler')
  assert.deepEqual(portsOf(scaler.egress), [[443, 6443]])
})
