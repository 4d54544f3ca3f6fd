/** Names of workflows are permanent: histories refer to them. */
export { fanOut } from './fan-out.ts'
export { mailbox } from './mailbox.ts'
export { replay } from './replay.ts'
export { task } from './task.ts'
export { schedule } from './schedule.ts'
export { autoscale } from './autoscale.ts'
export { retention } from './retention.ts'
