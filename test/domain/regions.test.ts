import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createRegions, homeOf, mayHold, nearest, nearestMeasured, problemsOfRegions, zonesOf, type Region } from '../../domain/regions.ts'

const region = (name: string, more: Partial<Region> = {}): Region => ({
  ...{ name, zone: null, role: 'active', peers: [], apiUrl: `https://${name}.example`, temporalAddress: `${name}.example:7233` },
  ...more,
})

const ALL = [
  region('us-east', { peers: ['us-west'] }),
  region('us-west', { role: 'standby', peers: ['us-east'] }),
  region('eu-west', { zone: 'eu', peers: ['eu-north'] }),
  region('eu-north', { zone: 'eu' }),
]
const DISTANCES = { 'us-east|us-west': 70, 'eu-west|us-east': 80, 'us-east|eu-north': 95 }

test('distances are the same both ways, nothing to oneself, and far where nobody has told', () => {
  const regions = createRegions(ALL, 'us-east', DISTANCES)
  assert.equal(regions.distanceMs('us-east', 'eu-west'), 80)
  assert.equal(regions.distanceMs('eu-west', 'us-east'), 80)
  assert.equal(regions.distanceMs('us-west', 'us-west'), 0)
  assert.ok(regions.distanceMs('us-west', 'eu-west') > 500)
})

test('data of a zone is held in the zone alone, other data everywhere', () => {
  const [east, , eu] = ALL as [Region, Region, Region]
  assert.deepEqual(
    [mayHold(east, null), mayHold(eu, null), mayHold(east, 'eu'), mayHold(eu, 'eu'), mayHold(eu, 'us')],
    [...[true, true, false, true, false]],
  )
})

test('what may not be held here goes to the nearest active region of its zone', () => {
  assert.equal(homeOf(createRegions(ALL, 'us-east', DISTANCES), 'eu')?.name, 'eu-west')
  assert.equal(homeOf(createRegions(ALL, 'eu-north', DISTANCES), 'eu')?.name, 'eu-north')
  assert.equal(homeOf(createRegions(ALL, 'us-east', DISTANCES), 'mars'), undefined)
  const standby = ALL.map((one) => (one.zone === 'eu' ? { ...one, role: 'standby' as const } : one))
  assert.equal(homeOf(createRegions(standby, 'us-east', DISTANCES), 'eu'), undefined)
})

test('the nearest of some is one of them, and none is nearer', () => {
  const names = ALL.map(({ name }) => name)
  fc.assert(
    fc.property(fc.subarray([...ALL]), fc.constantFrom(...names), (candidates, own) => {
      const regions = createRegions(ALL, own, DISTANCES)
      const found = nearest(regions, candidates)
      if (candidates.length === 0) return found === undefined
      const distance = regions.distanceMs(own, found!.name)
      return candidates.includes(found!) && candidates.every(({ name }) => regions.distanceMs(own, name) >= distance)
    }),
  )
})

test('a region that nobody has named is not found', () => {
  const regions = createRegions(ALL, 'us-east', DISTANCES)
  assert.throws(() => regions.get('mars'), /there is no region "mars"/)
  assert.throws(() => createRegions(ALL, 'mars', DISTANCES), /there is no region "mars"/)
  assert.deepEqual([regions.has('eu-west'), regions.has('mars')], [true, false])
})

test('every problem is named with its place', () => {
  assert.deepEqual(problemsOfRegions(ALL, DISTANCES), [])
  const wrong = [region('a', { peers: ['a', 'b', 'nowhere'] }), region('b', { zone: 'eu', peers: ['a', 'a'] })]
  assert.deepEqual(problemsOfRegions(wrong, { 'a|b|c': 1, 'a|mars': 2 }), [
    'regions.a.peers: a region is not its own peer',
    'regions.a.peers: there is no region "nowhere"',
    'regions.b.peers: a is not in the zone "eu", which the data of b must not leave',
    'regions.b.peers: a is not in the zone "eu", which the data of b must not leave',
    'regions.b.peers: a peer is named twice',
    'distancesMs.a|b|c: must be two regions with a | between',
    'distancesMs.a|mars: there is no region "mars"',
  ])
})

test('no region is named like the wish for the nearest', () => {
  assert.match(problemsOfRegions([region('nearest')], {}).join(), /^regions\.nearest: no region may be named so/)
})

test('the region with the least connect time is the nearest, of equals the one less far; this one where nothing was measured', () => {
  const regions = createRegions(ALL, 'us-east', DISTANCES)
  const of = (measured: Record<string, number>) => nearestMeasured(regions, new Map(Object.entries(measured))).name
  assert.equal(of({}), 'us-east')
  assert.equal(of({ 'eu-west': 2, 'us-west': 71, 'us-east': 80 }), 'eu-west')
  assert.equal(of({ 'eu-west': 5, 'us-west': 5 }), 'us-west')
  assert.equal(of({ 'eu-west': 5, 'us-east': 5 }), 'us-east')
  assert.equal(of({ mars: 1 }), 'us-east')
})

test('zones are named once, in their order', () => {
  assert.deepEqual(zonesOf(createRegions([...ALL, region('in', { zone: 'asia' })], 'us-east', DISTANCES)), ['asia', 'eu'])
})
