import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createToken } from '../../api/token.ts'
import { eventually } from '../support/eventually.ts'
import { startTestService, TEST_SECRET } from '../support/service.ts'

test('a token that is ended in one API process is refused by another, which had remembered it', async () => {
  const first = await startTestService({ roles: ['api'] })
  const second = await startTestService({ roles: ['api'], env: { DATABASE_URL: first.database.url } })
  const statusAt = async (url: string, token: string): Promise<number> => {
    const response = await fetch(`${url}/api/v1/event-type`, { headers: { authorization: `Bearer ${token}` } })
    await response.body?.cancel()
    return response.status
  }
  try {
    const { id } = await first.svix.application.create({ name: 'Revoked' })
    const { token } = await first.svix.authentication.appPortalAccess(id, {})
    const own = await createToken({ secret: TEST_SECRET, subject: first.organisation })
    for (const url of [first.url, second.url]) assert.deepEqual([await statusAt(url, token), await statusAt(url, own)], [200, 200])
    const answer = await fetch(`${first.url}/api/v1/auth/app/${id}/expire-all`, {
      method: 'POST',
      headers: { authorization: `Bearer ${first.token}` },
      body: '{}',
    })
    assert.equal(answer.status, 204)
    assert.equal(await statusAt(first.url, token), 401)
    // Remembered for five minutes unless the notification comes.
    await eventually(
      () => statusAt(second.url, token),
      (status) => status === 401,
    )
    assert.equal(await statusAt(second.url, own), 200)
  } finally {
    await second.stop()
    await first.stop()
  }
})
