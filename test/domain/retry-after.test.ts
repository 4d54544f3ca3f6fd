import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseRetryAfter } from '../../domain/backoff.ts'

const NOW_MS = Date.UTC(2026, 7, 1, 12, 0, 0)
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat']
const LONG_DAYS = ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday']
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
const two = (value: number) => String(value).padStart(2, '0')
const clock = (at: Date) => `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`

const rfc850 = (at: Date) =>
  `${LONG_DAYS[at.getUTCDay()]}, ${two(at.getUTCDate())}-${MONTHS[at.getUTCMonth()]}-${two(at.getUTCFullYear() % 100)} ${clock(at)} GMT`
const asctime = (at: Date) =>
  `${DAYS[at.getUTCDay()]} ${MONTHS[at.getUTCMonth()]} ${String(at.getUTCDate()).padStart(2)} ${clock(at)} ${at.getUTCFullYear()}`

const secondsAhead = fc.integer({ min: 1, max: 20 * 365 * 86_400 })

/** Runs `work` where the process believes to be in another time zone. */
function inTimeZone(zone: string, work: () => void): void {
  const before = process.env['TZ']
  process.env['TZ'] = zone
  try {
    work()
  } finally {
    if (before === undefined) delete process.env['TZ']
    else process.env['TZ'] = before
  }
}

test('seconds are understood, with space around them', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 999_999_999 }), fc.constantFrom('', ' ', '\t', '  '), (seconds, space) => {
      assert.equal(parseRetryAfter(`${space}${seconds}${space}`, NOW_MS), seconds * 1000)
    }),
  )
})

test('more seconds than anyone can mean are a long time, not nothing', () => {
  for (const text of ['9999999999', '1'.repeat(30), '9'.repeat(400)]) {
    const waitMs = parseRetryAfter(text, NOW_MS)
    assert.ok(waitMs !== undefined && waitMs > 86_400_000, `${text} gave ${waitMs}`)
  }
})

test('the three forms of an HTTP date are understood, as UTC wherever the process runs', () => {
  for (const zone of ['UTC', 'America/New_York', 'Asia/Kolkata']) {
    inTimeZone(zone, () => {
      fc.assert(
        fc.property(secondsAhead, (seconds) => {
          const at = new Date(NOW_MS + seconds * 1000)
          for (const text of [at.toUTCString(), rfc850(at), asctime(at)])
            assert.equal(parseRetryAfter(text, NOW_MS), seconds * 1000, `${text} in ${zone}`)
        }),
        { numRuns: 50 },
      )
    })
  }
})

test('a date that is past, or now, asks for nothing', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 50 * 365 * 86_400 }), (seconds) => {
      assert.equal(parseRetryAfter(new Date(NOW_MS - seconds * 1000).toUTCString(), NOW_MS), undefined)
    }),
  )
})

test('what is neither seconds nor an HTTP date asks for nothing', () => {
  const garbage = ['', ' ', '-1', '1.5', '1e3', '+5', '0x10', '5 s', 'soon', 'retry 2050', 'never before 2050', '2050-01-01', 'NaN'].concat(
    ['Infinity', 'Foo, 01 Bar 2050 00:00:00 GMT', 'Wed, 99 Oct 2050 07:28:00 GMT', 'Wed, 21 Oct 2050 07:28:00 GMT, 120', '120, 240'],
  )

  for (const text of garbage) assert.equal(parseRetryAfter(text, NOW_MS), undefined, JSON.stringify(text))
  assert.equal(parseRetryAfter(undefined, NOW_MS), undefined)
})

test('no header makes it throw, give a negative wait, or give none that is a number', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.stringMatching(/^[A-Za-z]{3}.{0,30}$/)), (text) => {
      const waitMs = parseRetryAfter(text, NOW_MS)
      assert.ok(waitMs === undefined || waitMs >= 0, `${JSON.stringify(text)} gave ${waitMs}`)
    }),
    { numRuns: 500 },
  )
})
