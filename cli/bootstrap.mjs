// node cli/bootstrap.mjs <script> [arguments]: what every npm script goes through. Plain JavaScript for Node 20 and newer
// without dependencies, because it runs before there are any: it installs the dependencies when package-lock.json asks for
// other ones, finds a Node that runs TypeScript, and hands over to the script.
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, realpathSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { constants, tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'

const NODE_MAJOR = 24
const ROOT = realpathSync(join(dirname(fileURLToPath(import.meta.url)), '..'))
const MODULES = join(ROOT, 'node_modules')
const STAMP = join(MODULES, '.tidings-installed')
const LOCK = join(tmpdir(), `tidings-install-${createHash('sha256').update(ROOT).digest('hex').slice(0, 16)}`)
const HEARTBEAT_MS = 2000
// A lock whose owner has not touched it for this long, and whose npm has ended, belongs to nobody.
const STALE_MS = 15_000
const SAY_EVERY_MS = 5000
// Ctrl-C reaches the whole foreground group, and npm passes it on once more: what comes this close together is one signal.
const SAME_SIGNAL_MS = 1000

const say = (text) => process.stderr.write(`tidings: ${text}\n`)

function fail(text) {
  say(text)
  process.exit(1)
}

const wantedHash = () =>
  createHash('sha256')
    .update(`${process.platform} ${process.arch} `)
    .update(readFileSync(join(ROOT, 'package-lock.json')))
    .digest('hex')

function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'))
  } catch {
    return undefined
  }
}

/** Whether node_modules is what the lock file asks for. Somebody may have run npm themselves, without development parts. */
function isInstalled() {
  const stamp = existsSync(STAMP) ? readFileSync(STAMP, 'utf8') : undefined
  if (stamp === wantedHash()) return true
  const installed = readJson(join(MODULES, '.package-lock.json'))?.packages
  const wanted = readJson(join(ROOT, 'package-lock.json'))?.packages
  if (installed === undefined || wanted === undefined) return false
  return Object.entries(wanted).every(([path, entry]) => {
    if (path === '' || entry.link === true) return true
    const found = installed[path]
    if (found !== undefined) return found.version === entry.version
    return entry.optional === true || entry.devOptional === true || (entry.dev === true && stamp === undefined)
  })
}

function writeStamp() {
  try {
    if (!existsSync(STAMP) || readFileSync(STAMP, 'utf8') !== wantedHash()) writeFileSync(STAMP, wantedHash())
  } catch {
    // A read-only installation needs no stamp: what is installed is compared each time.
  }
}

function isStale() {
  try {
    if (Date.now() - statSync(LOCK).mtimeMs < STALE_MS) return false
    process.kill(Number(readFileSync(join(LOCK, 'npm'), 'utf8')), 0)
    return false
  } catch (error) {
    return error.code !== 'EPERM'
  }
}

/** Installs, unless another start is at it or has done it meanwhile: a folder is the lock, since making one is atomic. */
async function install() {
  let told = false
  while (!isInstalled()) {
    try {
      mkdirSync(LOCK)
    } catch (error) {
      if (error.code !== 'EEXIST') fail(`cannot lock the installation: ${error.message}`)
      if (isStale()) rmSync(LOCK, { recursive: true, force: true })
      else if (!told) say('waiting for another start that installs the dependencies')
      told = true
      await delay(250)
      continue
    }
    try {
      if (!isInstalled()) await runNpm()
      writeStamp()
    } finally {
      rmSync(LOCK, { recursive: true, force: true })
    }
    return
  }
  writeStamp()
}

async function runNpm() {
  const since = Date.now()
  say('installing dependencies (npm ci)')
  const cli = process.env.npm_execpath
  const viaNode = cli !== undefined && /\.c?js$/.test(cli) && /npm/.test(cli)
  const flags = ['ci', '--no-audit', '--no-fund', '--loglevel=error']
  const npm = spawn(viaNode ? process.execPath : 'npm', viaNode ? [cli, ...flags] : flags, {
    cwd: ROOT,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let errors = ''
  npm.stderr.on('data', (chunk) => (errors = `${errors}${chunk}`.slice(0, 8000)))
  if (npm.pid !== undefined) writeFileSync(join(LOCK, 'npm'), String(npm.pid))
  const seconds = () => Math.round((Date.now() - since) / 1000)
  const heartbeat = setInterval(() => utimesSync(LOCK, new Date(), new Date()), HEARTBEAT_MS)
  const progress = setInterval(() => say(`installing dependencies (${seconds()} s so far)`), SAY_EVERY_MS)
  const stop = () => {
    npm.kill()
    rmSync(LOCK, { recursive: true, force: true })
    process.exit(130)
  }
  process.once('SIGINT', stop).once('SIGTERM', stop)
  const code = await new Promise((resolve) => npm.once('error', (error) => resolve(error.message)).once('close', resolve))
  process.off('SIGINT', stop).off('SIGTERM', stop)
  clearInterval(heartbeat)
  clearInterval(progress)
  if (code === 0) return say(`dependencies installed in ${seconds()} s`)
  const reason = errors
    .split('\n')
    .map((line) => line.replace(/^npm (error|ERR!)\s*/, '').trim())
    .find((line) => line !== '' && !line.startsWith('code '))
  rmSync(LOCK, { recursive: true, force: true })
  if (errors.includes('EUSAGE'))
    fail('npm ci refuses: package-lock.json does not fit package.json; run npm install and keep the lock file that it writes')
  fail(`npm ci failed (${reason ?? `exit ${code}`}): check the network and the registry that npm is set to, then start again`)
}

/** The program to run the script with; undefined: this very process. */
function findNode() {
  if (Number(process.versions.node.split('.')[0]) >= NODE_MAJOR) return undefined
  const packaged = join(MODULES, `node-${process.platform}-${process.arch}`, 'bin', 'node')
  if (existsSync(packaged)) return packaged
  return fail(
    `Node ${NODE_MAJOR} or newer is needed on ${process.platform} ${process.arch}, this is ${process.versions.node}: install it and start again`,
  )
}

/** Runs the script as a child with our terminal. The open channel tells it when this process is gone, however that came. */
function handOver(node, script, args) {
  const child = spawn(node, [...process.execArgv, '--disable-warning=ExperimentalWarning', script, ...args], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
  })
  let lastMs = -Infinity
  const forward = (signal) => {
    const nowMs = performance.now()
    if (nowMs - lastMs >= SAME_SIGNAL_MS) child.kill(signal)
    lastMs = nowMs
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, forward)
  child.once('error', (error) => fail(`${node} does not start: ${error.message}`))
  child.once('exit', (code, signal) => process.exit(code ?? 128 + (constants.signals[signal] ?? 0)))
}

const [target, ...rest] = process.argv.slice(2)
if (target === undefined) fail('usage: node cli/bootstrap.mjs <script> [arguments]')
await install()
const script = join(ROOT, target)
const node = findNode()
if (node === undefined) {
  process.argv = [process.execPath, script, ...rest]
  await import(pathToFileURL(script).href)
} else {
  handOver(node, script, rest)
}
