import { after, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { createScratch } from '../support/scratch.ts'
import { archiveAndKill } from './archive-kills.ts'

const scratch = createScratch('archive')

after(() => scratch.remove())

test('workers that are killed while they archive in a directory: every row is once in the archive or the database', (t) =>
  archiveAndKill(t, { url: pathToFileURL(scratch.path).href }))
