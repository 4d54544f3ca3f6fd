import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { handedTo, type Handable, type Placed } from '../../domain/handover.ts'
import type { Batching } from '../../domain/ordering.ts'
import { createRegions, type Region } from '../../domain/regions.ts'

const region = (name: string, role: Region['role'] = 'active'): Region => ({
  ...{ name, role, zone: null, peers: [], apiUrl: `https://${name}.example`, temporalAddress: `${name}.example:7233` },
})
const ALL = [region('here'), region('there'), region('far'), region('spare', 'standby')]
const regions = createRegions(ALL, 'here', {})

const name = fc.constantFrom('here', 'there', 'far', 'spare', 'nowhere', 'nearest')
const batching: fc.Arbitrary<Batching | null> = fc.constantFrom(null, { maxEvents: 2, lingerMs: 10, maxBytes: 1024 })
const endpoint: fc.Arbitrary<Placed> = fc.record({
  region: fc.option(name, { nil: null }),
  ordering: fc.constantFrom('none' as const, 'none' as const, 'fifo' as const, 'fifo-by-key' as const),
  batching,
})
const message: fc.Arbitrary<Handable> = fc.record({
  acceptedIn: fc.option(fc.constantFrom('there', 'far'), { nil: undefined }),
  payload: fc.constantFrom('{}', null),
})
const plain: Placed = { region: 'there', ordering: 'none', batching: null }
const published: Handable = { payload: '{}' }

test('a delivery is handed to the active region that its endpoint names, and to no other', () => {
  fc.assert(
    fc.property(endpoint, message, (one, sent) => {
      const to = handedTo(regions, one, sent)
      if (to === undefined) return
      assert.equal(to, one.region)
      assert.notEqual(to, 'here')
      assert.equal(regions.get(to).role, 'active')
    }),
  )
})

test("what goes through a queue, has come from another region, or has no payload is this region's, wherever its endpoint is", () => {
  fc.assert(
    fc.property(endpoint, message, (one, sent) => {
      const stays = one.ordering !== 'none' || one.batching !== null || sent.acceptedIn !== undefined || sent.payload === null
      if (stays) assert.equal(handedTo(regions, one, sent), undefined)
      else assert.equal(handedTo(regions, one, sent), ['there', 'far'].includes(one.region ?? '') ? one.region! : undefined)
    }),
  )
})

test("without regions everything is this one's", () => {
  fc.assert(fc.property(endpoint, message, (one, sent) => assert.equal(handedTo(undefined, one, sent), undefined)))
})

test('what one region hands to another is never handed on, so no delivery goes round in circles', () => {
  fc.assert(
    fc.property(endpoint, fc.constantFrom(...ALL), (one, from) => {
      const to = handedTo(createRegions(ALL, from.name, {}), one, published)
      if (to !== undefined) assert.equal(handedTo(createRegions(ALL, to, {}), one, { ...published, acceptedIn: from.name }), undefined)
    }),
  )
  assert.equal(handedTo(regions, plain, published), 'there')
})
