import { setTimeout as pause } from 'node:timers/promises'
import { readConfig } from '../config/index.ts'
import { LIMITS } from '../domain/limits.ts'
import { createPool, type Pool } from '../storage/pool.ts'
import { markSpan } from '../storage/rollup-late.ts'
import { readProgress, rollUp, type RollupProgress } from '../storage/rollups.ts'
import { readOptions, runCommand } from './command.ts'
import { databaseUrlOf } from './data-dir.ts'
import { CommandFailure } from './failure.ts'
import { createProgress } from './progress.ts'
import { instantOf } from './time.ts'

const HELP = `npm run --silent rollups -- [options]

Tells how far statistics are rolled up at DATABASE_URL (else the database of npm start here). With --since it counts the attempts of
those minutes anew, and what is made of them; beside the dispatchers, and whatever was written by hand or came back from elsewhere.
  --since <time>  from then on: 90m, 12h, 7d, or 2026-11-23T09:00:00Z; ${LIMITS.rollupMinutesKeptDays} days at most
  --until <time>  before (now)
  --json          as one JSON object`

const TURN_WAIT_MS = 200

await runCommand({
  help: HELP,
  async main(args) {
    const text = { type: 'string' } as const
    const options = readOptions(args, { since: text, until: text, json: { type: 'boolean', default: false } })
    if (options.until !== undefined && options.since === undefined) throw new CommandFailure('usage', '--until needs --since')
    const pool = createPool(databaseUrlOf(readConfig()), 2)
    try {
      const minutes = options.since === undefined ? 0 : await countAnew(pool, options.since, options.until)
      const progress = await readProgress(pool)
      process.stdout.write(options.json ? `${JSON.stringify({ ...shown(progress), minutes })}\n` : describe(progress, minutes))
      return 0
    } finally {
      await pool.end()
    }
  },
})

/** @returns how many minutes */
async function countAnew(pool: Pool, since: string, until: string | undefined): Promise<number> {
  const nowMs = Date.now()
  const read = (option: string, text: string) => instantOf(option, text, nowMs, LIMITS.rollupMinutesKeptDays).getTime()
  const untilMs = until === undefined ? nowMs : Math.min(nowMs, read('--until', until))
  const minutes = await markSpan(pool, { fromMs: read('--since', since), untilMs })
  await createProgress().step(`counting ${minutes} minutes anew`, async () => {
    while ((await readProgress(pool)).asked > 0) {
      // Undefined: a dispatcher has the turn, and does the same.
      if ((await rollUp(pool)) === undefined) await pause(TURN_WAIT_MS)
    }
  })
  return minutes
}

function shown({ beginsMs, throughMs, turnedAtMs, turnMs, late }: RollupProgress) {
  const time = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString())
  return { begins: time(beginsMs), through: time(throughMs), turnedAt: time(turnedAtMs), turnMs, late }
}

function describe(progress: RollupProgress, minutes: number): string {
  const { begins, through, turnedAt, turnMs, late } = shown(progress)
  const anew = minutes === 0 ? '' : `Counted anew: ${minutes} minutes.\n`
  const last = turnedAt === null ? 'No turn yet: a dispatcher takes one every minute.' : `Last turn ${turnedAt}, ${turnMs} ms.`
  return `${anew}Rolled up from ${begins} to ${through}. ${last}\nMinutes to be counted anew: ${late}\n`
}
