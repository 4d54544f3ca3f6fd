import assert from 'node:assert/strict'
import { test } from 'node:test'
import { freePort } from '../../cli/embedded/ports.ts'
import { createPool } from '../../storage/pool.ts'
import { openBreaker } from '../../storage/endpoint-state.ts'
import { eventually } from '../support/eventually.ts'

import { startReceiver } from '../support/receiver.ts'
import { startTestService } from '../support/service.ts'

test('Prometheus reads attempts, deliveries, what is held back, breakers, queues, statements and the API', async () => {
  const [port, temporalPort] = [await freePort(), await freePort()]
  const receiver = await startReceiver((one) => ({ status: one.path === '/limited' ? 429 : 200 }))
  const service = await startTestService({
    env: { TIDINGS_METRICS_PORT: String(port), TIDINGS_TEMPORAL_METRICS_PORT: String(temporalPort) },
  })
  const pool = createPool(service.database.url, 2)
  try {
    const { id: appId } = await service.svix.application.create({ name: 'measured' })
    const create = (path: string) => service.svix.endpoint.create(appId, { url: `${receiver.url}${path}` })
    const endpoints = await Promise.all(['/well', '/limited', '/broken'].map(create))
    await openBreaker(pool, endpoints[2]!.id, 60_000, { successRate: 0 })
    const metrics = () => fetch(`http://127.0.0.1:${port}/metrics`).then((response) => response.text())
    await eventually(metrics, (text) => /^tidings_endpoints\{state="open"\} 1$/m.test(text))
    await service.svix.message.create(appId, { eventType: 'invoice.paid', payload: {} })
    const text = await eventually(metrics, (now) =>
      [
        /result="delivered"\} 1$/m,
        /^tidings_retries_scheduled_total [1-9]/m,
        /outcome="rate_limited"\} [1-9]/,
        /^tidings_held_total.* 1$/m,
      ].every((there) => there.test(now)),
    )
    assert.match(text, /^tidings_attempt_duration_seconds_count \d+$/m)
    assert.match(text, /^tidings_held_total\{reason="the circuit breaker is open"\} 1$/m)
    assert.match(text, /^tidings_cache_requests_total\{cache="endpoints",result="hit"\} [1-9]/m)
    assert.match(text, /^tidings_cache_bytes\{cache="endpoints"\} [1-9]/m)
    assert.match(text, /^tidings_requests_total\{lane="fast"\} [1-9]\d*$/m)
    assert.match(text, /^tidings_connections_opened_total\{lane="fast",handshake="none"\} [1-9]\d*$/m)
    assert.match(text, /^tidings_connections_open\{lane="fast"\} \d+$/m)
    assert.match(text, /^tidings_deliveries_total\{result="delivered"\} 1$/m)
    assert.match(text, /^tidings_retries_scheduled_total [1-9]/m)
    assert.match(text, /^tidings_first_request_seconds_count 2$/m)
    assert.match(text, /^tidings_messages_accepted_total 1$/m)
    assert.match(text, /^tidings_accept_duration_seconds_count 1$/m)
    assert.match(text, /^tidings_api_requests_total\{kind="publish",status="2xx"\} 1$/m)
    assert.match(text, /^tidings_api_request_duration_seconds_count\{kind="publish"\} 1$/m)
    assert.match(text, /^tidings_queue_rows\{queue="outbox"\} \d+$/m)
    assert.match(text, /^tidings_queue_lag_seconds\{queue="outbox"\} [\d.]+$/m)
    assert.match(text, /^tidings_dead_letters 0$/m)
    assert.match(text, /^tidings_rollup_lag_seconds [\d.]+$/m)
    assert.match(text, /^tidings_retention_overdue_seconds 0$/m)
    assert.match(text, /^tidings_days_ahead [67]$/m)
    assert.match(text, /^tidings_event_loop_busy_seconds_total [\d.]+$/m)
    for (const lane of ['fast', 'slow', 'retry']) assert.match(text, new RegExp(`^tidings_request_slots\\{lane="${lane}"\\} 100$`, 'm'))
    assert.match(text, /^tidings_request_slots_used\{lane="fast"\} \d+$/m)
    assert.match(text, /^tidings_database_statement_seconds_count\{statement="record-(?:successes|changes)"\} [1-9]/m)
    assert.match(text, /^tidings_database_connections\{state="idle"\} \d+$/m)
    const [well, limited] = endpoints
    assert.ok(text.includes(`tidings_endpoint_attempts_total{endpoint="${well!.id}",result="success"} 1\n`))
    assert.match(text, new RegExp(`^tidings_endpoint_rate_limit_hits_total\\{endpoint="${limited!.id}",by="endpoint"\\} [1-9]`, 'm'))
    assert.ok(text.includes(`tidings_endpoint_breaker{endpoint="${well!.id}"} 0\n`))
    assert.match(text, /^tidings_endpoint_attempts_total\{endpoint="other",result="success"\} 0$/m)
    const sdk = await fetch(`http://127.0.0.1:${temporalPort}/metrics`).then((response) => response.text())
    assert.match(sdk, /^temporal_worker_task_slots_available\{/m)
    assert.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 404)
  } finally {
    await pool.end()
    await service.stop()
    await receiver.close()
  }
})

test('beyond the busiest endpoints all are counted together', async () => {
  const port = await freePort()
  const receiver = await startReceiver()
  const service = await startTestService({ env: { TIDINGS_METRICS_PORT: String(port), TIDINGS_METRICS_ENDPOINTS: '2' } })
  try {
    const { id: appId } = await service.svix.application.create({ name: 'many' })
    for (const path of ['/a', '/b', '/c', '/d', '/e']) await service.svix.endpoint.create(appId, { url: `${receiver.url}${path}` })
    await service.svix.message.create(appId, { eventType: 'invoice.paid', payload: {} })
    const metrics = () => fetch(`http://127.0.0.1:${port}/metrics`).then((response) => response.text())
    const successes = (text: string) => [...text.matchAll(/^tidings_endpoint_attempts_total\{endpoint="(\w+)",result="success"\} (\d+)$/gm)]
    const text = await eventually(metrics, (now) => successes(now).reduce((sum, [, , count]) => sum + Number(count), 0) === 5)
    const counts = successes(text).map(([, name, count]) => [name === 'other' ? name : 'named', Number(count)])
    assert.deepEqual(
      counts.sort(([a], [b]) => String(a).localeCompare(String(b))),
      [
        ['named', 1],
        ['named', 1],
        ['other', 3],
      ],
    )
  } finally {
    await service.stop()
    await receiver.close()
  }
})
