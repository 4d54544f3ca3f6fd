import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const ROOT = join(import.meta.dirname, '..', '..')

/** The commands of a page of documentation below a heading or a step: the block that comes first, or a later one. */
export function commandsOf(path: string, after: string, block = 0): string {
  const page = readFileSync(join(ROOT, path), 'utf8')
  const from = page.indexOf(after)
  assert.ok(from >= 0, after)
  return [...page.slice(from).matchAll(/```sh\n([^`]*)```/g)][block]![1]!
}
