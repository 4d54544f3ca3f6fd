import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { test, type TestContext } from 'node:test'
import { pino } from 'pino'
import { createLocalPool, type LocalPool } from '../../workers/local-pool.ts'
import { isRunning } from '../../cli/embedded/process-table.ts'
import { eventually } from '../support/eventually.ts'
import { createScratch } from '../support/scratch.ts'

// A process that does what a worker does at its beginning and end; `BEHAVIOUR` tells where it differs.
const PROGRAM = `
const { BEHAVIOUR } = process.env
if (BEHAVIOUR === 'crashes') process.exit(3)
process.on('SIGTERM', () => {
  if (BEHAVIOUR !== 'never drains') setTimeout(() => process.exit(0), 50)
})
process.once('disconnect', () => process.exit(0))
process.stdout.write('{"level":30}\\nworker ready\\n')
setInterval(() => undefined, 1000)
`

interface Told {
  readonly msg: string
  readonly place?: number
  readonly waitMs?: number
  readonly code?: number | null
  readonly signal?: string | null
}

function startPool(t: TestContext, { behaviour = '', drainMs = 5000 } = {}): { pool: LocalPool; told: Told[] } {
  const scratch = createScratch('pool')
  const script = join(scratch.path, 'worker.mjs')
  writeFileSync(script, PROGRAM)
  const told: Told[] = []
  const log = pino({}, { write: (line) => void told.push(JSON.parse(line) as Told) })
  const pool = createLocalPool({
    program: process.execPath,
    args: [script],
    readyLine: /^worker ready$/,
    environmentOf: () => ({ BEHAVIOUR: behaviour }),
    drainMs,
    max: 8,
    backoff: { firstMs: 10, maxMs: 40 },
    output: new PassThrough().resume(),
    log,
  })
  t.after(async () => {
    await pool.stop()
    scratch.remove()
  })
  return { pool, told }
}

const allReady = (pool: LocalPool, workers: number) =>
  eventually(
    () => pool.read(),
    ({ wanted, ready }) => wanted === workers && ready === workers,
  )

const drained = ({ told }: { told: readonly Told[] }) => told.filter(({ msg }) => msg === 'pool.worker-drained')
const crashes = ({ told }: { told: readonly Told[] }) => told.filter(({ msg }) => msg === 'pool.worker-crashed')

test('grows, shrinks by the newest, and lets them drain', async (t) => {
  const { pool, told } = startPool(t)
  await pool.scaleTo(3)
  await allReady(pool, 3)
  const before = pool.pids()
  await pool.scaleTo(1)
  assert.deepEqual(pool.pids(), before.slice(0, 1))
  const ended = await eventually(
    () => Promise.resolve(drained({ told })),
    (all) => all.length === 2,
  )
  assert.deepEqual(new Set(ended.map(({ place }) => place)), new Set([1, 2]))
  assert.ok(ended.every(({ code }) => code === 0))
  assert.deepEqual(
    before.map((pid) => isRunning(pid)),
    [true, false, false],
  )
  await pool.scaleTo(2)
  await allReady(pool, 2)
})

test('a killed worker is replaced', async (t) => {
  const { pool } = startPool(t)
  await pool.scaleTo(2)
  await allReady(pool, 2)
  const [first, second] = pool.pids()
  process.kill(first!, 'SIGKILL')
  await eventually(
    () => Promise.resolve(pool.pids()),
    (pids) => pids.length === 2 && !pids.includes(first!),
  )
  await allReady(pool, 2)
  assert.ok(pool.pids().includes(second!))
})

test('waits longer before each start of a worker that crashes again and again', async (t) => {
  const { pool, told } = startPool(t, { behaviour: 'crashes' })
  await pool.scaleTo(1)
  const first = await eventually(
    () => Promise.resolve(crashes({ told })),
    (all) => all.length >= 4,
  )
  assert.deepEqual(
    first.slice(0, 4).map(({ waitMs }) => waitMs),
    [10, 20, 40, 40],
  )
  assert.deepEqual(await pool.read(), { wanted: 1, ready: 0 })
})

test('kills a worker that does not drain in time', async (t) => {
  const { pool, told } = startPool(t, { behaviour: 'never drains', drainMs: 100 })
  await pool.scaleTo(1)
  await allReady(pool, 1)
  await pool.stop()
  assert.equal(told.find(({ msg }) => msg === 'pool.worker-drained')?.signal, 'SIGKILL')
})

test('refuses numbers of workers that make no sense, and changes nothing', async (t) => {
  const { pool } = startPool(t)
  for (const workers of [-1, 1.5, 9, Number.NaN]) await assert.rejects(pool.scaleTo(workers), RangeError)
  assert.deepEqual(await pool.read(), { wanted: 0, ready: 0 })
})
