import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { isId, lowestIdAt, newId, type IdPrefix } from '../../domain/ids.ts'

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const prefix = fc.constantFrom<IdPrefix>('app', 'ep', 'msg', 'atmpt', 'org', 'qtask', 'out')
// Until 2150, where the 32 bits of a KSUID's seconds end.
const LAST_MS = (1_400_000_000 + 0xffff_ffff) * 1000
const time = fc.integer({ min: 1_400_000_000_000, max: LAST_MS })
const bytes = fc.uint8Array({ minLength: 15, maxLength: 15 })
const fixed = (random: Uint8Array) => () => random
const byteOrder = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b))

test('an id is its prefix and 27 characters of base 62', () => {
  fc.assert(
    fc.property(prefix, time, bytes, (kind, nowMs, random) => {
      const id = newId(kind, nowMs, fixed(random))
      assert.match(id, new RegExp(`^${kind}_[0-9A-Za-z]{27}$`))
      assert.ok(isId(kind, id))
    }),
  )
})

test('the digits of an id are its 160 bits', () => {
  fc.assert(
    fc.property(time, bytes, (nowMs, random) => {
      const digits = newId('msg', nowMs, fixed(random)).slice('msg_'.length)
      let value = [...digits].reduce((sum, digit) => sum * 62n + BigInt(ALPHABET.indexOf(digit)), 0n)
      const read: number[] = []
      for (; value > 0n; value >>= 8n) read.unshift(Number(value & 255n))
      const whole = Array<number>(20 - read.length)
        .fill(0)
        .concat(read)
      assert.deepEqual(whole.slice(5), [...random])
    }),
  )
})

test('ids sort bytewise by time, in steps of 4 ms, whatever their random part is', () => {
  fc.assert(
    fc.property(time, time, bytes, bytes, (a, b, randomA, randomB) => {
      if (Math.floor(a / 4) === Math.floor(b / 4)) return
      const order = byteOrder(newId('msg', a, fixed(randomA)), newId('msg', b, fixed(randomB)))
      assert.equal(Math.sign(order), Math.sign(a - b))
    }),
  )
})

test('the lowest id of an instant is below every id of it and above every earlier one', () => {
  fc.assert(
    fc.property(time, bytes, (nowMs, random) => {
      const lowest = lowestIdAt('msg', nowMs)
      assert.ok(byteOrder(lowest, newId('msg', nowMs, fixed(random))) <= 0)
      const before = Math.floor(nowMs / 4) * 4 - 1
      if (before >= 1_400_000_000_000) assert.ok(byteOrder(newId('msg', before, fixed(random)), lowest) < 0)
    }),
  )
})

test('bounds keep their order for every instant a filter may name, also years that no id can have', () => {
  const anyTime = fc.integer({ min: Date.UTC(0), max: Date.UTC(9999, 11, 31) })
  fc.assert(
    fc.property(anyTime, anyTime, (a, b) => {
      const [early, late] = [Math.min(a, b), Math.max(a, b)]
      assert.ok(
        byteOrder(lowestIdAt('msg', early), lowestIdAt('msg', late)) <= 0,
        `${new Date(early).toISOString()} ${new Date(late).toISOString()}`,
      )
    }),
  )
  assert.ok(byteOrder(newId('msg', Date.UTC(2030)), lowestIdAt('msg', Date.UTC(9999, 11, 31))) < 0)
  assert.ok(byteOrder(lowestIdAt('msg', 0), newId('msg')) < 0)
})

test('a hundred thousand ids of one instant differ', () => {
  const ids = new Set(Array.from({ length: 100_000 }, () => newId('atmpt', 1_700_000_000_000)))
  assert.equal(ids.size, 100_000)
})

test('what is not an id of the kind is told from one', () => {
  const id = newId('ep')
  for (const text of [
    '',
    'ep_',
    id.slice(0, -1),
    `${id}0`,
    id.replace('ep_', 'ap_'),
    id.replace('ep_', 'ep-'),
    `${id.slice(0, -1)}-`,
    `${id.slice(0, -1)}\n`,
  ]) {
    assert.ok(!isId('ep', text), JSON.stringify(text))
  }
  assert.ok(!isId('app', id))
})
