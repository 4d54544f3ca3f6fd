/**
 * Identifiers: a prefix and a KSUID of 27 base-62 characters, as the Svix API has them. The first 40 bits are time in
 * units of 4 ms, so ids sort bytewise by the time they were made; the other 120 bits are random.
 */

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const KSUID_EPOCH_S = 1_400_000_000
const KSUID_LENGTH = 27
const RANDOM_BYTES = 15
/** The last instant that 32 bits of seconds hold, in 2150. */
const LAST_MS = 0xffff_ffff * 1000 + 999

export type IdPrefix = 'app' | 'ep' | 'msg' | 'atmpt' | 'org' | 'qtask' | 'out' | 'audit' | 'batch'

/** Random bytes for one id. Injected because workflows and `domain/` may not reach for a source of their own. */
export type RandomBytes = (bytes: Uint8Array) => Uint8Array

const cryptoRandom: RandomBytes = (bytes) => globalThis.crypto.getRandomValues(bytes as Uint8Array<ArrayBuffer>)

// Asking the system for 15 bytes at a time costs more than the rest of an id together.
const POOL_BYTES = RANDOM_BYTES * 256
const pool = new Uint8Array(POOL_BYTES)
let poolUsed = POOL_BYTES

function pooledRandom(into: Uint8Array): Uint8Array {
  if (poolUsed + into.length > POOL_BYTES) {
    cryptoRandom(pool)
    poolUsed = 0
  }
  for (let i = 0; i < into.length; i++) into[i] = pool[poolUsed++]!
  return into
}

const CODES = Array.from(ALPHABET, (digit) => digit.charCodeAt(0))
const digits = Array<number>(KSUID_LENGTH).fill(0)

// Three digits at a time: the most that a division of 32 bits and a remainder leaves exact.
const CUBE = 62 ** 3

/** @param limbs 160 bits, the highest 32 first; used up */
function encodeBase62(limbs: Uint32Array): string {
  for (let position = KSUID_LENGTH - 3; position >= 0; position -= 3) {
    let remainder = 0
    for (let i = 0; i < limbs.length; i++) {
      const value = remainder * 0x1_0000_0000 + limbs[i]!
      const quotient = Math.floor(value / CUBE)
      limbs[i] = quotient
      remainder = value - quotient * CUBE
    }
    digits[position] = CODES[Math.floor(remainder / 3844)]!
    digits[position + 1] = CODES[Math.floor(remainder / 62) % 62]!
    digits[position + 2] = CODES[remainder % 62]!
  }
  return String.fromCharCode(...digits)
}

/**
 * Makes an id.
 * @param prefix kind of object
 * @param nowMs Unix time in milliseconds that the id sorts by
 * @param random source of the 15 random bytes
 */
export function newId(prefix: IdPrefix, nowMs: number = Date.now(), random: RandomBytes = pooledRandom): string {
  writeTime(nowMs)
  bytes.set(random(randomPart), 5)
  return `${prefix}_${encodeBase62(toLimbs())}`
}

/** The smallest id that an object made at `nowMs` can have: the bound for `before` and `after` filters. */
export function lowestIdAt(prefix: IdPrefix, nowMs: number): string {
  writeTime(nowMs)
  bytes.fill(0, 5)
  return `${prefix}_${encodeBase62(toLimbs())}`
}

// What every id is made in.
const bytes = new Uint8Array(20)
const view = new DataView(bytes.buffer)
const randomPart = new Uint8Array(RANDOM_BYTES)
const limbs = new Uint32Array(5)

function writeTime(nowMs: number): void {
  // Filters may name any year: an instant that no id can have is a bound below or above them all.
  const sinceEpochMs = Math.min(LAST_MS, Math.max(0, nowMs - KSUID_EPOCH_S * 1000))
  const seconds = Math.floor(sinceEpochMs / 1000)
  view.setUint32(0, seconds)
  bytes[4] = Math.floor((sinceEpochMs % 1000) / 4)
}

function toLimbs(): Uint32Array {
  for (let i = 0; i < limbs.length; i++) limbs[i] = view.getUint32(i * 4)
  return limbs
}

/** Whether `text` is an id of this kind (a `uid` may not look like one). */
export function isId(prefix: IdPrefix, text: string): boolean {
  return (
    text.length === prefix.length + 1 + KSUID_LENGTH &&
    text.startsWith(`${prefix}_`) &&
    /^[0-9A-Za-z]+$/.test(text.slice(prefix.length + 1))
  )
}
