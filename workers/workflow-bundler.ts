/**
 * A program: writes the workflows' code for the SDK's sandboxes to standard output; with the argument `versioned` that of
 * workers that have a version. In a process of its own, because the
 * compilers that make it would keep some 100 MB of a process that never needs them again.
 */
import { fileURLToPath } from 'node:url'
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker'

const workflows = (file: string) => fileURLToPath(new URL(`../workflows/${file}`, import.meta.url))

const { code } = await bundleWorkflowCode({
  workflowsPath: workflows(process.argv[2] === 'versioned' ? 'versioned.ts' : 'index.ts'),
  failureConverterPath: workflows('failure-converter.ts'),
  logger: new DefaultLogger('ERROR'),
})
process.stdout.write(code)
