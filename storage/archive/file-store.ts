import { randomBytes } from 'node:crypto'
import { mkdir, open, readdir, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { LIMITS } from '../../domain/limits.ts'
import { objectMissing, type ObjectStore, type StoredObject } from './object-store.ts'

// What is being written, or was by a process that died: an object to list once it is old, so that it is found and deleted.
const PARTIAL = /\.partial-[0-9a-f]{16}$/

/** Objects as files of a directory, which is made where it is not there. @param url `file:///…` */
export function createFileStore(url: string): ObjectStore {
  const root = fileURLToPath(url)
  const pathOf = (key: string) => join(root, ...partsOf(key))
  return {
    url: pathToFileURL(root).href,
    put: (key, body) => putFile(pathOf(key), body),
    get: (key) => reading(url, key, pathOf(key), (file) => file.readFile()),
    getRange: (key, start, end) => reading(url, key, pathOf(key), (file) => readRange(file, start, end)),
    async *list(prefix) {
      const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1)
      for await (const object of walk(root, folder)) if (object.key.startsWith(prefix)) yield object
    },
    async delete(keys) {
      for (const key of keys) await rm(pathOf(key), { force: true })
      for (const folder of new Set(keys.map((key) => dirname(pathOf(key))))) await syncFolder(folder)
    },
    close: () => undefined,
  }
}

/** @throws {RangeError} where a key would lead out of the directory */
function partsOf(key: string): string[] {
  const parts = key.split('/')
  if (parts.some((part) => part === '' || part === '.' || part === '..' || part.includes('\0'))) {
    throw new RangeError(`${JSON.stringify(key)} is no key of an object`)
  }
  return parts
}

/** The file is there in full under its name, or not at all, also after a loss of power. */
async function putFile(path: string, body: Uint8Array | Iterable<Uint8Array>): Promise<void> {
  const folder = dirname(path)
  await mkdir(folder, { recursive: true })
  const partial = `${path}.partial-${randomBytes(8).toString('hex')}`
  try {
    const file = await open(partial, 'wx', 0o640)
    try {
      for (const chunk of body instanceof Uint8Array ? [body] : body) await file.writeFile(chunk)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(partial, path)
  } catch (error) {
    await rm(partial, { force: true })
    throw error
  }
  await syncFolder(folder)
}

/** Has the names in a folder on disk. */
async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r').catch(ignoreMissing)
  if (handle === undefined) return
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

async function reading<T>(url: string, key: string, path: string, read: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, 'r').catch(ignoreMissing)
  if (file === undefined) throw objectMissing(url, key)
  try {
    return await read(file)
  } finally {
    await file.close()
  }
}

async function readRange(file: FileHandle, start: number, end: number): Promise<Buffer> {
  const buffer = Buffer.alloc(Math.max(0, end - start))
  let filled = 0
  while (filled < buffer.length) {
    const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, start + filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return buffer.subarray(0, filled)
}

/** @param folder relative, empty or with a slash at its end */
async function* walk(root: string, folder: string): AsyncIterable<StoredObject> {
  const entries = (await readdir(join(root, folder), { withFileTypes: true }).catch(ignoreMissing)) ?? []
  // As whole keys sort: a folder's name counts with its slash.
  const sortName = (entry: { name: string; isDirectory(): boolean }) => (entry.isDirectory() ? `${entry.name}/` : entry.name)
  for (const entry of entries.sort((a, b) => (sortName(a) < sortName(b) ? -1 : 1))) {
    const key = `${folder}${entry.name}`
    if (entry.isDirectory()) yield* walk(root, `${key}/`)
    else if (entry.isFile()) {
      // Deleted since it was listed.
      const stats = await stat(join(root, key)).catch(ignoreMissing)
      if (stats === undefined || (PARTIAL.test(key) && Date.now() - stats.mtimeMs <= LIMITS.archiveOrphanMs)) continue
      yield { key, bytes: stats.size, modifiedAt: stats.mtime }
    }
  }
}

function ignoreMissing(error: unknown): undefined {
  if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
  throw error
}
