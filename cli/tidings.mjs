#!/usr/bin/env node
// tidings <command> [options]: the npm scripts of the product under one name (`npx tidings` in a clone, `tidings` after npm
// link). Plain JavaScript, as the bootstrap that it hands over to.

/** By command: its script, and what it does. */
const COMMANDS = {
  start: ['cli/start.ts', 'everything on this machine'],
  api: ['cli/api.ts', 'the API alone'],
  worker: ['cli/worker.ts', 'dispatcher, delivery workers or both'],
  autoscale: ['cli/autoscale.ts', 'adds and removes workers by rules; pause, resume, set, status'],
  top: ['cli/top.ts', 'what processes do, live'],
  versions: ['cli/versions.ts', 'versions of workers: which is current, which is drained'],
  plan: ['cli/plan.ts', 'what a load needs and costs'],
  advise: ['cli/advise.ts', 'what recorded use would save'],
  rollups: ['cli/rollups.ts', 'how far statistics are rolled up; counts some minutes anew'],
  token: ['cli/token.ts', 'prints a token for the API'],
  reconcile: ['cli/reconcile.ts', 'starts what is undelivered and has no workflow, after a failover'],
  region: ['cli/region.ts', 'add, status, failover, failback: regions, their standbys, and what a lost one had not replicated'],
  archive: ['cli/archive.ts', 'list, search, restore, replay, verify: message data that has left the database'],
  import: ['cli/import.ts', 'applications and endpoints of a Svix server'],
  demo: ['cli/demo.ts', 'real payloads to a healthy, a flaky and a failing receiver'],
}

const [command, ...options] = process.argv.slice(2)
if (command !== undefined && Object.hasOwn(COMMANDS, command)) {
  process.argv = [process.argv[0], process.argv[1], COMMANDS[command][0], ...options]
  await import('./bootstrap.mjs')
} else {
  const asked = command === undefined || command === '--help' || command === '-h' || command === 'help'
  const width = Math.max(...Object.keys(COMMANDS).map((name) => name.length))
  const lines = Object.entries(COMMANDS).map(([name, [, does]]) => `  ${name.padEnd(width)}  ${does}`)
  const usage = `tidings <command> [options]\n\n${lines.join('\n')}\n\ntidings <command> --help tells the options of one.\n`
  if (asked) process.stdout.write(usage)
  else process.stderr.write(`tidings: there is no command "${command}"\n\n${usage}`)
  process.exitCode = asked ? 0 : 1
}
