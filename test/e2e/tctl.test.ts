import assert from 'node:assert/strict'
import { execFile, execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { eventually } from '../support/eventually.ts'
import { startReceiver } from '../support/receiver.ts'
import { startTestService } from '../support/service.ts'
import { temporalJson } from '../support/temporal-cli.ts'

function hasTctl(): boolean {
  try {
    execFileSync('tctl', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

test('`tctl` shows a fan-out, resets it, and starts a replay', async (t) => {
  if (!hasTctl()) return t.skip('tctl is not on the path')
  const receiver = await startReceiver()
  const service = await startTestService()
  t.after(async () => {
    await service.stop()
    await receiver.close()
  })
  const application = await service.svix.application.create({ name: 'tctl' })
  await service.svix.endpoint.create(application.id, { url: receiver.url })
  const message = await service.svix.message.create(application.id, { eventType: 'invoice.paid', payload: { amount: 1 } })
  const workflowId = `fan-out/${message.id}`
  await eventually(
    () => temporalJson<{ workflowExecutionInfo: { status: string } }>(service.temporal, 'workflow', 'describe', '-w', workflowId),
    (shown) => shown.workflowExecutionInfo.status === 'WORKFLOW_EXECUTION_STATUS_COMPLETED',
  )
  const { address, namespace } = service.temporal
  const tctl = (...args: string[]) => promisify(execFile)('tctl', ['--address', address, '--namespace', namespace, 'workflow', ...args])
  const again = (times: number) => receiver.waitFor(times, { matches: (one) => one.headers['webhook-id'] === message.id })
  const shown = await tctl('show', '-w', workflowId)
  assert.match(shown.stdout, /WorkflowExecutionCompleted/)
  await tctl('reset', '-w', workflowId, '--reset_type', 'FirstWorkflowTask', '--reason', 'test')
  await again(2)
  const range = { since: new Date(Date.now() - 60_000).toISOString(), until: new Date().toISOString() }
  const input = JSON.stringify({ applicationId: application.id, ...range, status: 'all' })
  await tctl('start', '--workflow_type', 'replay', '--taskqueue', 'fan-out', '-w', 'replay/by-tctl', '--input', input)
  await again(3)
})
