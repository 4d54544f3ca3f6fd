import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { NO_PYTHON, pythonFolder, runPython } from '../support/python.ts'
import { startTestService } from '../support/service.ts'

const folder = pythonFolder()

test(
  'the official Python client goes through every operation, and both libraries verify what is delivered',
  { skip: folder ? false : NO_PYTHON },
  async () => {
    assert.ok(folder)
    const service = await startTestService()
    try {
      const { code, output } = await runPython(folder, 'python', [join(import.meta.dirname, 'python_svix.py'), service.url, service.token])
      assert.equal(code, 0, output)
      assert.match(output, /every operation was called/)
    } finally {
      await service.stop()
    }
  },
)
