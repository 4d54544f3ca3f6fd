import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { once } from 'node:events'
import { readConfig } from '../../config/index.ts'
import type { S3Settings } from '../../storage/archive/s3-store.ts'
import { createScratch } from './scratch.ts'

/** Why a test of buckets skips. */
export const NO_S3 = 'versitygw is neither on the path nor built by .ci/run'

const READY_WITHIN_MS = 20_000
const POLL_MS = 50

export interface S3Server {
  /** Of a bucket that is empty. */
  bucket(name: string): S3Settings
  stop(): Promise<void>
}

function program(): string | undefined {
  const built = join(readConfig().cacheDir ?? join(homedir(), '.cache', 'tidings'), 'versitygw', 'versitygw')
  if (existsSync(built)) return built
  try {
    return execFileSync('sh', ['-c', 'command -v versitygw'], { encoding: 'utf8' }).trim()
  } catch {
    return undefined
  }
}

/** Starts an S3 server whose buckets are folders. @returns undefined where it is not installed */
export async function startS3(): Promise<S3Server | undefined> {
  const command = program()
  if (command === undefined) return undefined
  const scratch = createScratch('s3')
  const port = await freePort()
  const credentials = { accessKeyId: 'archivist', secretAccessKey: 'a secret of the tests' }
  const env = { ...process.env, ROOT_ACCESS_KEY: credentials.accessKeyId, ROOT_SECRET_KEY: credentials.secretAccessKey }
  // Metadata beside the objects: a temporary folder need not have extended attributes.
  const [buckets, metadata] = [join(scratch.path, 'buckets'), join(scratch.path, 'metadata')]
  mkdirSync(buckets)
  mkdirSync(metadata)
  const child = spawn(command, ['--port', `127.0.0.1:${port}`, '--quiet', 'posix', '--sidecar', metadata, buckets], {
    env,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let said = ''
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()))
  const ended = once(child, 'exit')
  const endpoint = `http://127.0.0.1:${port}`
  const stop = async () => {
    child.kill('SIGKILL')
    await ended
    scratch.remove()
  }
  for (const untilMs = Date.now() + READY_WITHIN_MS; ; await delay(POLL_MS)) {
    if (
      await fetch(endpoint).then(
        () => true,
        () => false,
      )
    )
      break
    if (child.exitCode !== null || Date.now() > untilMs) {
      await stop()
      throw new Error(`versitygw does not answer: ${said}`)
    }
  }
  return {
    bucket(name) {
      mkdirSync(join(buckets, name))
      return { url: `s3://${name}/tidings`, endpoint, region: 'us-east-1', credentials }
    },
    stop,
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
