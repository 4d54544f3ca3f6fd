import console from 'node:console'
import v8 from 'node:v8'
import { Script } from 'node:vm'

/**
 * Loaded into a thread of the SDK that runs workflows, before the SDK is (workers/workflow-threads.ts). Takes out two aids of
 * its sandbox that cost more than everything else in it: a timeout on each call into the sandbox, for which Node starts and
 * joins a thread (170 µs a call where the call itself takes 1 µs; a fan-out has about fifteen), and a stack trace for every
 * promise, which only the Web UI's "Call Stack" of a running workflow shows.
 */

const runInContext = Script.prototype.runInContext
Script.prototype.runInContext = function (context, options) {
  return runInContext.call(this, context, typeof options === 'object' ? { ...options, timeout: undefined } : options) as unknown
}

// The SDK answers stack trace queries with an error then. It also warns on standard error, of what is meant to be so.
v8.promiseHooks.createHook = () => {
  const { warn } = console
  console.warn = () => {
    console.warn = warn
  }
  throw new Error('taken out')
}
