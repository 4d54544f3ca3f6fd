import assert from 'node:assert/strict'
import { test } from 'node:test'
import { leaderConnection } from '../../storage/config-subscription.ts'

test('the address of a leader names all members, their parameters and a password as it is', () => {
  const url = (host: string) => `postgres://tidings:it%27s%20a%5C@${host}/configuration?sslmode=require`
  const text = leaderConnection([url('one'), url('[::1]:6000')])
  assert.match(text, /^host='one,::1' port='5432,6000' dbname='configuration' user='tidings' password='it\\'s a\\\\' sslmode='require' /)
  assert.match(text, / target_session_attrs='read-write'/)
})
