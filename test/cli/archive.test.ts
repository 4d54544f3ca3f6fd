import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { archiveRange } from '../../storage/archive/archive-range.ts'
import { openObjectStore } from '../../storage/archive/open-store.ts'
import type { ArchiveSettings } from '../../storage/archive/open-store.ts'
import { createStorage, type Storage } from '../storage/rows.ts'
import { createFileArchive, DAY, fillDay, KEY, partOf, rangeOf, type Filled } from '../storage/archive/fill.ts'
import { spawnScript } from '../support/processes.ts'
import { NO_S3, startS3, type S3Server } from '../support/s3.ts'

const s3: S3Server | undefined = await startS3()
let storage: Storage
let archive: Awaited<ReturnType<typeof createFileArchive>>
let filled: Filled

before(async () => {
  storage = await createStorage()
  archive = await createFileArchive()
  filled = await fillDay(storage.pool, { appId: 'app_a', messages: 12 })
  await fillDay(storage.pool, { appId: 'app_b', messages: 3 })
  await archiveAll({ url: archive.url })
})
after(async () => {
  await s3?.stop()
  archive.remove()
  await storage.drop()
})

async function archiveAll(settings: ArchiveSettings): Promise<void> {
  const store = await openObjectStore(settings)
  for (const part of [partOf('message'), partOf('attempt', 'success'), partOf('attempt', 'failure')]) {
    await archiveRange(rangeOf(storage.pool, store, part))
  }
  store.close()
}

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

async function run(args: readonly string[], env: Record<string, string> = {}): Promise<Ended> {
  const command = spawnScript('cli/archive.ts', args, {
    env: { TIDINGS_ARCHIVE_URL: archive.url, TIDINGS_ENCRYPTION_KEY: KEY, DATABASE_URL: storage.url, ...env },
  })
  const code = (await command.ended) as number | null
  return { code, stdout: command.stdout(), stderr: command.stderr() }
}

const lines = (text: string) => text.trim().split('\n')

test('list tells days, rows and bytes', async () => {
  const { code, stdout } = await run(['list'])
  assert.equal(code, 0)
  assert.match(stdout, /^day +table +outcome +rows +objects +raw bytes +stored bytes +ratio\n/)
  assert.match(stdout, new RegExp(`^${DAY} +message +15 +1 `, 'm'))
  assert.match(stdout, /^total +45 +3 /m)
  const { manifests } = JSON.parse((await run(['list', '--table', 'attempt', '--json'])).stdout) as { manifests: { rows: number }[] }
  assert.deepEqual(
    manifests.map(({ rows }) => rows),
    [15, 15],
  )
  assert.match((await run(['list', '--to', DAY])).stdout, /^Nothing is archived in /)
})

test('search finds one message with its attempts, and rows of an application by time', async () => {
  const id = filled.messageIds[5]!
  const one = await run(['search', '--id', id, '--attempts', '--json'])
  assert.equal(one.code, 0, one.stderr)
  const found = lines(one.stdout).map((line) => JSON.parse(line) as { table: string; day: string; row: Record<string, unknown> })
  assert.deepEqual(
    found.map(({ table, day }) => [table, day]),
    [
      ['message', DAY],
      ['attempt', DAY],
      ['attempt', DAY],
    ],
  )
  assert.deepEqual([found[0]!.row['id'], found[0]!.row['payload']], [id, '{"n":5,"text":"ä payload"}'])
  assert.deepEqual(
    found.slice(1).map(({ row }) => row['message_id']),
    [id, id],
  )
  const some = await run(['search', '--app', 'app_a', '--from', `${DAY}T04:00:00Z`, '--to', `${DAY}T08:30:00Z`])
  assert.equal(some.code, 0, some.stderr)
  assert.deepEqual(
    lines(some.stdout).map((line) => line.split('  ')[1]),
    filled.messageIds.slice(3, 5),
  )
  const attempt = await run(['search', '--id', filled.attemptIds[0]!])
  assert.match(attempt.stdout, new RegExp(`  ${filled.attemptIds[0]}  ${filled.messageIds[0]}  ep_app_a_0  503  12 ms\n$`))
})

test('what is not there, and options that make no sense, end with 1 and one line', async () => {
  const line = async (args: readonly string[], expected: RegExp, env = {}) => {
    const { code, stdout, stderr } = await run(args, env)
    assert.deepEqual([code, stdout], [1, ''], stderr)
    assert.match(stderr, expected)
    assert.match(stderr, /^[^\n]+\n$/)
  }
  await line(['search', '--id', filled.messageIds[0]!.replace(/.$/, '!')], /must be the id of a message or of an attempt/)
  await line(['search', '--id', `${filled.messageIds[0]!.slice(0, -3)}zzz`], /^tidings: nothing of msg_.* is in file:/)
  await line(['search'], /one of --id and --app is needed/)
  await line(['restore', '--name', 'Bad Name'], /--name must have lower-case letters/)
  await line(['list', '--table', 'endpoint'], /must be message or attempt/)
  await line(['list', '--from', '2026-09-02', '--to', '2026-09-01'], /--from must be before --to/)
  await line(['explode'], /there is no command "explode"/)
  await line(['list'], /set TIDINGS_ARCHIVE_URL/, { TIDINGS_ARCHIVE_URL: '' })
  const key = { TIDINGS_ENCRYPTION_KEY: `${KEY} another` }
  await line(
    ['search', '--id', filled.messageIds[0]!],
    /the key [0-9a-f]{8}, which is not known: name it in TIDINGS_ENCRYPTION_KEYS_PREVIOUS/,
    key,
  )
})

test('restore puts a range beside the service’s tables, again without doubling it', async () => {
  const args = ['restore', '--name', 'drill', '--from', `${DAY}T00:00:00Z`, '--to', `${DAY}T04:00:00Z`, '--app', 'app_a']
  const { code, stdout, stderr } = await run(args)
  assert.equal(code, 0, stderr)
  assert.equal(stdout, 'archive_drill.message: 3 rows restored of 3 found\narchive_drill.attempt: 6 rows restored of 6 found\n')
  const again = JSON.parse((await run([...args, '--json'])).stdout) as object
  assert.deepEqual(again, { schema: 'archive_drill', rows: { message: 0, attempt: 0 }, found: { message: 3, attempt: 6 } })
  const { rows } = await storage.pool.query<{ id: string }>('SELECT id FROM archive_drill.message ORDER BY id')
  assert.deepEqual(
    rows.map(({ id }) => id),
    filled.messageIds.slice(0, 3),
  )
})

test('verify ends with 1 where an object is damaged', async () => {
  const sound = await run(['verify'])
  assert.deepEqual(
    [sound.code, sound.stdout.replace(/\d+ bytes/, 'N bytes')],
    [0, '3 parts, 3 objects, 45 rows, N bytes: all as they were written\n'],
  )
  const { manifests } = JSON.parse((await run(['list', '--json'])).stdout) as { manifests: { objects: { key: string }[] }[] }
  const file = join(archive.path, manifests[0]!.objects[0]!.key)
  const good = readFileSync(file)
  writeFileSync(file, good.subarray(1))
  const bad = await run(['verify', '--json'])
  writeFileSync(file, good)
  assert.equal(bad.code, 1)
  assert.match((JSON.parse(bad.stdout) as { problems: string[] }).problems.join(), /^object_corrupt: data\/attempt-failure/)
})

test('a bucket is searched, restored and verified like a directory', { skip: s3 === undefined && NO_S3 }, async () => {
  const settings = s3!.bucket('archive')
  await archiveAll(settings)
  const env = {
    TIDINGS_ARCHIVE_URL: settings.url,
    AWS_ENDPOINT_URL_S3: settings.endpoint!,
    AWS_ACCESS_KEY_ID: settings.credentials!.accessKeyId,
    AWS_SECRET_ACCESS_KEY: settings.credentials!.secretAccessKey,
  }
  assert.match((await run(['verify'], env)).stdout, /^3 parts, 3 objects, 45 rows, /)
  const found = await run(['search', '--id', filled.messageIds[7]!, '--attempts'], env)
  assert.deepEqual([found.code, lines(found.stdout).length], [0, 3])
  assert.match((await run(['restore', '--name', 's3'], env)).stdout, /archive_s3.message: 15 rows restored of 15 found/)
})
