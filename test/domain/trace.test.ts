import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isTraceparent, readTraceparent, writeTraceparent } from '../../domain/trace.ts'

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736'
const SPAN = '00f067aa0ba902b7'

test('a traceparent is read and written as W3C has it', () => {
  const text = `00-${TRACE}-${SPAN}-01`
  assert.deepEqual(readTraceparent(text), { traceId: TRACE, spanId: SPAN, sampled: true })
  assert.equal(writeTraceparent(readTraceparent(text)!), text)
  assert.equal(readTraceparent(`00-${TRACE}-${SPAN}-00`)?.sampled, false)
  assert.equal(readTraceparent(`00-${TRACE}-${SPAN}-03`)?.sampled, true)
})

for (const wrong of [
  '',
  TRACE,
  `01-${TRACE}-${SPAN}-01`,
  `00-${TRACE.toUpperCase()}-${SPAN}-01`,
  `00-${'0'.repeat(32)}-${SPAN}-01`,
  `00-${TRACE}-${'0'.repeat(16)}-01`,
  `00-${TRACE}-${SPAN}-01-more`,
  `00-${TRACE}-${SPAN}`,
]) {
  test(`"${wrong}" is none`, () => {
    assert.equal(isTraceparent(wrong), false)
    assert.equal(readTraceparent(wrong), undefined)
  })
}
