import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { ConfigError, readConfig } from '../../config/index.ts'
import { createScratch } from '../support/scratch.ts'

const scratch = createScratch('regions')
after(() => scratch.remove())
const EXAMPLE = join(import.meta.dirname, '../../config/regions.json')

function written(content: string): string {
  const path = join(scratch.path, 'regions.json')
  writeFileSync(path, content)
  return path
}

function problemsOf(TIDINGS_REGIONS_FILE: string, TIDINGS_REGION: string): readonly string[] {
  try {
    readConfig({ TIDINGS_REGIONS_FILE, TIDINGS_REGION })
    return []
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.message.split('\n')
  }
}

test('the example of four regions is right, for each of them', () => {
  for (const name of ['us-east', 'us-west', 'eu-west', 'ap-southeast']) {
    const { regions, temporalNamespace } = readConfig({ TIDINGS_REGIONS_FILE: EXAMPLE, TIDINGS_REGION: name })
    assert.equal(regions!.own.name, name)
    assert.equal(temporalNamespace, `tidings-${name}`)
    assert.equal(regions!.all.length, 4)
    for (const other of regions!.all) assert.ok(regions!.distanceMs(name, other.name) < 1000)
  }
})

test('without the file there is one region', () => {
  assert.equal(readConfig({}).regions, undefined)
})

test('what is wrong with the file is said with its place, and all of it together', () => {
  assert.deepEqual(problemsOf(join(scratch.path, 'none.json'), 'a'), ['TIDINGS_REGIONS_FILE: cannot be read (ENOENT)'])
  assert.deepEqual(problemsOf(written('{'), 'a'), ['TIDINGS_REGIONS_FILE: is not JSON'])
  assert.deepEqual(problemsOf(written('[]'), 'a'), ['TIDINGS_REGIONS_FILE: Invalid input: expected object, received array'])
  assert.deepEqual(problemsOf(written('{"regions": {}}'), 'a'), ['TIDINGS_REGIONS_FILE: regions: must name a region at least'])
  const b = { apiUrl: 'ftp://b', temporalAddress: 'b', peer: [] }
  assert.deepEqual(problemsOf(written(JSON.stringify({ regions: { b } })), 'a'), [
    'TIDINGS_REGIONS_FILE: regions.b.apiUrl: must be an http:// or https:// URL',
    'TIDINGS_REGIONS_FILE: regions.b.temporalAddress: must be host:port',
    'TIDINGS_REGIONS_FILE: regions.b: Unrecognized key: "peer"',
  ])
  const c = { apiUrl: 'http://c.example', temporalAddress: 'c.example:7233', peers: ['d'] }
  assert.deepEqual(problemsOf(written(JSON.stringify({ regions: { c } })), 'a'), [
    'TIDINGS_REGIONS_FILE: regions.c.peers: there is no region "d"',
    'TIDINGS_REGIONS_FILE: regions: there is no region "a", which TIDINGS_REGION names',
  ])
})

test('with a shared configuration a zone has one active region', () => {
  const region = (zone: string | null, role = 'active') => ({ zone, role, apiUrl: 'http://x.example', temporalAddress: 'x.example:7233' })
  const file = (regions: object) => written(JSON.stringify({ regions }))
  const read = (TIDINGS_REGIONS_FILE: string) =>
    readConfig({ TIDINGS_REGIONS_FILE, TIDINGS_REGION: 'a', CONFIG_DATABASE_URLS: 'postgres://one/t' })
  read(file({ a: region('eu'), b: region('eu', 'standby'), c: region(null), d: region(null) }))
  const crowded = file({ a: region('eu'), b: region('eu'), c: region(null) })
  assert.deepEqual(problemsOf(crowded, 'a'), [])
  assert.throws(() => read(crowded), {
    message:
      'CONFIG_DATABASE_URLS: applications with a zone are configured in the database of one region, ' +
      'so with a shared configuration the zone "eu" can have one active region, not a, b',
  })
})
