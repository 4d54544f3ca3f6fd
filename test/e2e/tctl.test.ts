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

test('`tctl workflow reset` delivers a fan-out again', async (t) => {
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
  const reset = ['workflow', 'reset', '-w', workflowId, '--reset_type', 'FirstWorkflowTask', '--reason', 'test']
  await promisify(execFile)('tctl', ['--address', address, '--namespace', namespace, ...reset])
  await receiver.waitFor(2, { matches: (one) => one.headers['webhook-id'] === message.id })
})
