/** A workflow of the test of Temporal clusters: sleeps, and says what signals it got. */
import { defineSignal, setHandler, sleep } from '@temporalio/workflow'

const noted = defineSignal<[string]>('note')

export async function sleeper({ sleepMs }: { readonly sleepMs: number }): Promise<readonly string[]> {
  const notes: string[] = []
  setHandler(noted, (note) => void notes.push(note))
  await sleep(sleepMs)
  return notes
}
