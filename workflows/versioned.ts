/**
 * The workflows of workers that have a version. They are apart because a server refuses tasks from workers that have none
 * and say how they are versioned.
 */
import { setWorkflowOptions } from '@temporalio/workflow'
import { fanOut } from './fan-out.ts'

// It ends within about a minute, so the version that has begun it ends it. What lives longer goes on with the current one.
setWorkflowOptions({ versioningBehavior: 'PINNED' }, fanOut)

export * from './index.ts'
