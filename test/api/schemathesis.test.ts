import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { NO_PYTHON, pythonFolder, runPython } from '../support/python.ts'
import { createScratch } from '../support/scratch.ts'
import { startApi, type Harness } from './harness.ts'
import { createRecorded } from './recorded.ts'

const folder = pythonFolder()
const skip = folder ? false : NO_PYTHON
const CONFIG = join(import.meta.dirname, 'schemathesis.toml')

/** Fuzzes the API from the document that it serves. @returns how many requests were tried */
async function fuzz(api: Harness, config: string, options: readonly string[]): Promise<number> {
  assert.ok(folder)
  const location = [`${api.url}/api/v1/openapi.json`, '--header', `Authorization: Bearer ${api.token}`]
  const { code, output } = await runPython(folder, 'schemathesis', [
    '--config-file',
    config,
    'run',
    ...location,
    '--checks',
    'all',
    ...options,
  ])
  assert.equal(code, 0, output)
  return Number(/(\d+) generated/.exec(output)?.[1])
}

test('no request made from the document, valid or not, is answered with an error inside or against the document', { skip }, async () => {
  const api = await startApi({ rateLimit: 0 })
  try {
    const tried = await fuzz(api, CONFIG, ['--max-examples', '25'])
    assert.ok(tried > 5000, `${tried} requests`)
  } finally {
    await api.close()
  }
})

test('the same holds where the application, endpoint, message, attempt and event type of the path exist', { skip }, async () => {
  const api = await startApi({ rateLimit: 0 })
  const scratch = createScratch('schemathesis')
  try {
    const recorded = await createRecorded(api)
    const message = await recorded.publish()
    const eventType = (await api.svix.eventType.create({ name: 'user.signup', description: 'A user has signed up' })).name
    const ids = { app_id: recorded.app, endpoint_id: recorded.endpoint, msg_id: message, event_type_name: eventType }
    const parts = Object.entries({ ...ids, attempt_id: await recorded.attempt({ messageId: message }) })
    const config = join(scratch.path, 'schemathesis.toml')
    const lines = parts.map(([name, value]) => `"path.${name}" = "${value}"\n`)
    writeFileSync(
      config,
      readFileSync(CONFIG, 'utf8').replace('[parameters]\n', (section) => section + lines.join('')),
    )
    const keep = ['--exclude-method', 'DELETE', '--exclude-operation-id', 'v1.application.erase']
    const tried = await fuzz(api, config, ['--phases', 'coverage,fuzzing', '--max-examples', '15', ...keep])
    assert.ok(tried > 3000, `${tried} requests`)
  } finally {
    await api.close()
    scratch.remove()
  }
})
