import threads, { type WorkerOptions } from 'node:worker_threads'

// Not the process's own flags: Node refuses some of them for a thread.
const FLAGS = ['--disable-warning=ExperimentalWarning', '--import', new URL('workflow-thread.ts', import.meta.url).href]
const SDK_THREAD = /workflow-worker-thread\.js$/

/**
 * Has the threads that the SDK starts for workflows load workers/workflow-thread.ts first: without it a fan-out costs half as
 * much CPU again (docs/performance.md). The SDK has no option for it, and starts its threads with nothing but a file name.
 */
export function leanWorkflowThreads(): void {
  const Thread = threads.Worker
  threads.Worker = class extends Thread {
    constructor(file: string | URL, options?: WorkerOptions) {
      super(file, SDK_THREAD.test(String(file)) ? { ...options, execArgv: FLAGS } : options)
    }
  }
}
