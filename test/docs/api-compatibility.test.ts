import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { OPERATIONS } from '../reference/document.ts'

const ROOT = new URL('../../', import.meta.url)

test('the conformance table has a row for every operation of the reference, no other, and each names a test that exists', () => {
  const page = readFileSync(new URL('docs/api-compatibility.md', ROOT), 'utf8')
  const rows = [...page.matchAll(/^\| `((?:GET|HEAD|POST|PUT|PATCH|DELETE) [^`]+)` +\| `(test\/[^`]+\.test\.ts)` +\|/gm)]
  assert.deepEqual(rows.map(([, name]) => String(name)).sort(), OPERATIONS.map((one) => one.name).sort())
  for (const [, name, path] of rows) assert.ok(existsSync(new URL(path ?? '', ROOT)), `${name}: ${path}`)
})
