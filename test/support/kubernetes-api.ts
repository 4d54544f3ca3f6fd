import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { KubeConfig } from '@kubernetes/client-node'
import { makeCertificate } from './certificates.ts'
import { eventually } from './eventually.ts'
import { kubernetesProgram } from './kubernetes-programs.ts'
import { spawnProcess } from './processes.ts'
import { createScratch } from './scratch.ts'

const START_MS = 120_000
const ADMIN_TOKEN = 'token-of-the-administrator'

/** The API server of Kubernetes with an etcd of its own. No controller and no node: what is created stays as it is. */
export interface KubernetesApi {
  readonly address: string
  /** Of a user who may do everything. */
  readonly admin: KubeConfig
  /** Writes a kubeconfig file for a token, at this server or another address. @returns its path */
  kubeconfig(token: string, options?: { readonly namespace?: string; readonly address?: string }): string
  stop(): Promise<void>
}

/** @returns undefined where `kube-apiserver` or `etcd` is missing */
export async function startKubernetesApi(): Promise<KubernetesApi | undefined> {
  const program = kubernetesProgram('kube-apiserver')
  const etcdProgram = kubernetesProgram('etcd')
  if (program === undefined || etcdProgram === undefined) return undefined
  const scratch = createScratch('kubernetes')
  const write = (name: string, content: string) => {
    writeFileSync(join(scratch.path, name), content)
    return join(scratch.path, name)
  }
  const [etcdPort, peerPort, port] = [await freePort(), await freePort(), await freePort()]
  const etcdUrl = `http://127.0.0.1:${etcdPort}`
  const peerUrl = `http://127.0.0.1:${peerPort}`
  const listening = ['--listen-client-urls', etcdUrl, '--advertise-client-urls', etcdUrl, '--listen-peer-urls', peerUrl]
  const cluster = ['--initial-advertise-peer-urls', peerUrl, '--initial-cluster', `default=${peerUrl}`]
  const etcd = spawnProcess(etcdProgram, ['--data-dir', join(scratch.path, 'etcd'), ...listening, ...cluster])
  const authority = makeCertificate('authority', { isAuthority: true })
  const serving = makeCertificate('kubernetes', { issuer: authority, hosts: ['127.0.0.1', 'localhost'] })
  const accounts = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const authorityFile = write('ca.crt', authority.certificate)
  const server = spawnProcess(program, [
    `--etcd-servers=${etcdUrl}`,
    '--bind-address=127.0.0.1',
    '--advertise-address=127.0.0.1',
    `--secure-port=${port}`,
    `--tls-cert-file=${write('tls.crt', serving.certificate)}`,
    `--tls-private-key-file=${write('tls.key', serving.privateKey)}`,
    `--cert-dir=${scratch.path}`,
    `--token-auth-file=${write('tokens.csv', `${ADMIN_TOKEN},admin,admin,system:masters\n`)}`,
    '--authorization-mode=RBAC',
    '--service-account-issuer=https://kubernetes.default.svc',
    `--service-account-key-file=${write('accounts.pub', accounts.publicKey.export({ type: 'spki', format: 'pem' }) as string)}`,
    `--service-account-signing-key-file=${write('accounts.key', accounts.privateKey.export({ type: 'pkcs1', format: 'pem' }) as string)}`,
    '--service-cluster-ip-range=10.0.0.0/24',
  ])
  const address = `https://127.0.0.1:${port}`
  const stop = async () => {
    // Nothing of it is needed again.
    for (const one of [server, etcd]) {
      one.signal('SIGKILL')
      await one.ended
    }
    scratch.remove()
  }
  let files = 0
  const kubeconfig: KubernetesApi['kubeconfig'] = (token, options = {}) => {
    const { namespace = 'default', address: at = address } = options
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'test',
      clusters: [{ name: 'test', cluster: { server: at, 'certificate-authority': authorityFile } }],
      users: [{ name: 'test', user: { token } }],
      contexts: [{ name: 'test', context: { cluster: 'test', user: 'test', namespace } }],
    }
    return write(`kubeconfig-${files++}`, JSON.stringify(config))
  }
  const admin = new KubeConfig()
  admin.loadFromFile(kubeconfig(ADMIN_TOKEN))
  try {
    await eventually(() => isReady(admin, server.hasEnded, server.stderr), Boolean, START_MS)
  } catch (error) {
    await stop()
    throw error
  }
  return { address, admin, kubeconfig, stop }
}

async function isReady(config: KubeConfig, hasEnded: () => boolean, said: () => string): Promise<boolean> {
  if (hasEnded()) throw new Error(said())
  const { CoreV1Api, Health } = await import('@kubernetes/client-node')
  try {
    if (!(await new Health(config).readyz({}))) return false
    // It is there a moment after the server is ready.
    await config.makeApiClient(CoreV1Api).readNamespace({ name: 'default' })
    return true
  } catch {
    return false
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
