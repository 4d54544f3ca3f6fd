import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type AddressInfo } from 'node:net'
import { createScratch } from './scratch.ts'

export interface RedisServer {
  readonly url: string
  signal(signal: NodeJS.Signals): void
  /** Kills it; what it kept is gone. */
  stop(): Promise<void>
}

/**
 * Starts a Redis that keeps everything in memory.
 * @param port a free one unless told
 * @returns undefined where `redis-server` is not on the path
 */
export async function startRedis(port?: number): Promise<RedisServer | undefined> {
  const scratch = createScratch('redis')
  const listens = port ?? (await freePort())
  const args = ['--port', String(listens), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', scratch.path]
  const child = spawn('redis-server', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })
  const ready = new Promise<true>((resolve) => {
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      said += chunk
      if (said.includes('Ready to accept connections')) resolve(true)
    })
  })
  const stop = async () => {
    child.kill('SIGKILL')
    await ended
    scratch.remove()
  }
  if ((await Promise.race([ready, ended])) !== true) {
    await stop()
    return undefined
  }
  return { url: `redis://127.0.0.1:${listens}`, signal: (signal) => void child.kill(signal), stop }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
