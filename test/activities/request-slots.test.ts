import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createRequestSlots, type Answered, type Refusal, type RequestSlots, type Slot } from '../../activities/request-slots.ts'
import { LIMITS } from '../../domain/limits.ts'

type Granted = Slot | Refusal

/** Lets every promise that is ready go on. */
const turn = () => new Promise<void>((resolve) => setImmediate(resolve))

function fastLane(now?: () => number): RequestSlots {
  return createRequestSlots({ isSlow: () => false, startingLimit: 1, now })
}

function at(slots: RequestSlots, endpointId: string, host = 'one'): Slot {
  const slot = slots.acquire(endpointId, host)
  assert.ok(typeof slot === 'object' && !(slot instanceof Promise), `no slot for ${endpointId}`)
  return slot
}

/** Brings an endpoint to its full number of requests at a time. */
function warm(slots: RequestSlots, endpointId: string, host = 'one'): void {
  for (let i = 0; i < 5; i++) at(slots, endpointId, host).release('quickly')
}

/** Takes slots until one has to be waited for; the one that waits is returned too. */
function fill(slots: RequestSlots, endpointId: string, host = 'one') {
  const held: Slot[] = []
  for (;;) {
    const slot = slots.acquire(endpointId, host)
    if (slot instanceof Promise) return { held, waits: slot }
    assert.ok(typeof slot === 'object')
    held.push(slot)
  }
}

test('an endpoint begins with one request and doubles with each quick answer, up to ten', () => {
  const limits = [0, 1, 2, 3, 4, 5, 6].map((answers) => {
    const slots = fastLane()
    for (let i = 0; i < answers; i++) at(slots, 'a').release('quickly')
    return fill(slots, 'a').held.length
  })
  assert.deepEqual(limits, [1, 2, 4, 8, 10, 10, 10])
})

test('a warm endpoint has ten requests in flight, and the eleventh gets the first place that is free', async () => {
  const slots = fastLane()
  warm(slots, 'a')
  const { held, waits } = fill(slots, 'a')
  assert.equal(held.length, LIMITS.endpointInFlightPerWorker)
  held[3]!.release('quickly')
  assert.equal(typeof (await waits), 'object')
})

test('endpoints of one host share ten places, and take turns', async () => {
  const slots = fastLane()
  const endpoints = ['a', 'b', 'c']
  for (const one of endpoints) warm(slots, one)
  const { held, waits } = fill(slots, 'a')
  const order: string[] = []
  const wait = (one: string, granted: Granted | Promise<Granted>) =>
    Promise.resolve(granted).then((slot) => {
      order.push(one)
      return slot as Slot
    })
  const waiting = [wait('a', waits), ...['a', 'b', 'b', 'c', 'c'].map((one) => wait(one, slots.acquire(one, 'one')))]
  for (const slot of held.slice(0, 6)) {
    slot.release('quickly')
    await turn()
  }
  await Promise.all(waiting)
  assert.deepEqual(order.slice(0, 3).sort(), endpoints)
  assert.deepEqual(order.slice(3).sort(), endpoints)
})

test('another host has places of its own', () => {
  const slots = fastLane()
  warm(slots, 'a', 'one')
  fill(slots, 'a', 'one')
  at(slots, 'b', 'two')
})

test('a lane has a hundred places over all hosts', () => {
  const slots = fastLane()
  let held = 0
  for (let host = 0; host < 12; host++) {
    for (let i = 0; i < 10; i++) if (!(slots.acquire(`${host} ${i}`, `host ${host}`) instanceof Promise)) held++
  }
  assert.equal(held, LIMITS.requestsInFlightPerLane)
})

test('hosts that always have more to send do not keep a full lane to themselves', async () => {
  const slots = fastLane()
  const held: Slot[] = []
  const flood = (host: number) =>
    void Promise.resolve(slots.acquire(`flood ${host}`, `host ${host}`)).then((slot) => held.push(slot as Slot))
  for (let host = 0; host < 10; host++) {
    warm(slots, `flood ${host}`, `host ${host}`)
    for (let i = 0; i < 30; i++) flood(host)
  }
  await turn()
  assert.equal(held.length, 100)
  let modest: Granted | undefined
  void Promise.resolve(slots.acquire('modest', 'another')).then((slot) => (modest = slot))
  // Each place that becomes free is asked for again by the host that had it.
  for (let releases = 0; modest === undefined; releases++) {
    assert.ok(releases < 200, 'after 200 releases the modest endpoint still waits')
    held.shift()!.release('quickly')
    flood(releases % 10)
    await turn()
  }
})

test('in the fast lane a silent endpoint is turned away until it has answered, with those who waited for it', async () => {
  const slots = fastLane()
  const slot = at(slots, 'a')
  const waits = slots.acquire('a', 'one')
  slot.detach()
  assert.equal(await waits, 'slow')
  assert.equal(slots.acquire('a', 'one'), 'slow')
  slot.release('slowly')
  at(slots, 'a')
})

test('many who waited for a silent endpoint are told one after another, the longest waiting first', async () => {
  const slots = fastLane()
  const slot = at(slots, 'a')
  const told: number[] = []
  const waiting = Array.from({ length: 400 }, (_, n) => Promise.resolve(slots.acquire('a', 'one')).then(() => told.push(n)))
  slot.detach()
  await turn()
  assert.equal(told.length, 20)
  assert.equal(slots.acquire('a', 'one'), 'slow')
  await Promise.all(waiting)
  assert.deepEqual(told, [...Array(400).keys()])
})

test('an endpoint that is slow is turned away by the fast lane, and served by the others', () => {
  const slow = new Set(['a'])
  const slots = createRequestSlots({ isSlow: (endpointId) => slow.has(endpointId), startingLimit: 1 })
  assert.equal(slots.acquire('a', 'one'), 'slow')
  at(slots, 'b')
  at(createRequestSlots({ startingLimit: 1 }), 'a')
})

test('a silent request gives its place of the host back, and counts as the endpoint’s own', async () => {
  const slots = createRequestSlots({ startingLimit: 1 })
  const silent = Array.from({ length: 10 }, (_, i) => at(slots, `silent ${i}`))
  const waits = slots.acquire('healthy', 'one')
  assert.ok(waits instanceof Promise)
  silent[0]!.detach()
  assert.equal(typeof (await waits), 'object')
  assert.ok(slots.acquire('silent 0', 'one') instanceof Promise, 'the silent endpoint got a second request')
})

test('whoever would wait long for its endpoint is told that it is busy', () => {
  let nowMs = 0
  const slots = fastLane(() => nowMs)
  for (let i = 0; i < 50; i++) {
    const slot = at(slots, 'a')
    nowMs += 900
    slot.release('slowly')
  }
  at(slots, 'a')
  const answers = Array.from({ length: 10 }, () => slots.acquire('a', 'one'))
  assert.equal(answers.at(-1), 'busy')
  assert.ok(answers[0] instanceof Promise)
})

const operation = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('acquire' as const), endpoint: fc.nat(7) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('release' as const),
      which: fc.nat(),
      answered: fc.constantFrom<Answered>('quickly', 'slowly', 'never'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('detach' as const), which: fc.nat() }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(40_000) }) },
)

interface Held {
  readonly slot: Slot
  readonly endpoint: string
  readonly host: string
  detached: boolean
}

test('whatever happens, no limit is exceeded, nobody waits for ever, and every place comes back', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(operation, { maxLength: 120 }),
      fc.boolean(),
      fc.integer({ min: 1, max: 5 }),
      async (operations, refuseSlow, startingLimit) => {
        let nowMs = 0
        let waiting = 0
        const slots = createRequestSlots({ ...(refuseSlow ? { isSlow: () => false } : {}), startingLimit, now: () => nowMs })
        const held: Held[] = []
        const take = (granted: Granted, endpoint: string, host: string) => {
          if (typeof granted === 'object') held.push({ slot: granted, endpoint, host, detached: false })
          else assert.ok(refuseSlow, `${granted} in a lane that turns nobody away`)
        }
        const within = (count: number, limit: number, what: string) => assert.ok(count <= limit, `${count} requests of ${what}`)
        const check = () => {
          const active = held.filter((one) => !one.detached)
          within(active.length, LIMITS.requestsInFlightPerLane, 'the lane')
          for (const one of held) {
            within(active.filter((other) => other.host === one.host).length, LIMITS.connectionsPerHost, one.host)
            within(held.filter((other) => other.endpoint === one.endpoint).length, LIMITS.endpointInFlightPerWorker, one.endpoint)
          }
        }
        for (const one of operations) {
          if (one.kind === 'acquire') {
            const [endpoint, host] = [`ep ${one.endpoint}`, `host ${one.endpoint % 2}`]
            const granted = slots.acquire(endpoint, host)
            if (granted instanceof Promise) {
              waiting++
              void granted.then((slot) => {
                waiting--
                take(slot, endpoint, host)
              })
            } else take(granted, endpoint, host)
          } else if (one.kind === 'pass') nowMs += one.ms
          else if (held.length > 0) {
            const chosen = held[one.which % held.length]!
            if (one.kind === 'detach') {
              chosen.slot.detach()
              chosen.detached = true
            } else {
              chosen.slot.release(one.answered)
              // Giving back twice must not count twice.
              chosen.slot.release('quickly')
              chosen.slot.detach()
              held.splice(held.indexOf(chosen), 1)
            }
          }
          await turn()
          check()
        }
        while (held.length > 0) {
          held.pop()!.slot.release('quickly')
          await turn()
          check()
        }
        assert.equal(waiting, 0, `${waiting} wait for ever`)
        nowMs += 120_000
        for (let endpoint = 0; endpoint < 8; endpoint++) warm(slots, `ep ${endpoint}`, `host ${endpoint % 2}`)
        assert.equal(fill(slots, 'ep 0', 'host 0').held.length, LIMITS.endpointInFlightPerWorker)
        assert.equal(fill(slots, 'ep 1', 'host 1').held.length, LIMITS.endpointInFlightPerWorker)
      },
    ),
    { numRuns: 150 },
  )
})

test('those who wait for one endpoint take turns by their priority, and the low ones are not left out', async () => {
  const slots = fastLane()
  warm(slots, 'a')
  const { held } = fill(slots, 'a')
  const order: string[] = []
  const waiting = (['low', 'medium', 'high'] as const).flatMap((priority) =>
    Array.from({ length: 13 }, () =>
      Promise.resolve(slots.acquire('a', 'one', priority)).then((slot) => {
        order.push(priority)
        held.push(slot as Slot)
      }),
    ),
  )
  while (held.length > 0) {
    held.shift()!.release('quickly')
    await turn()
  }
  await Promise.all(waiting)
  // One more waits first: of medium priority, from filling.
  const first = order.slice(0, 13)
  const count = (priority: string) => first.filter((one) => one === priority).length
  assert.deepEqual([count('high'), count('low')], [8, 1])
  assert.equal(order.length, 39)
})
