import { CONFIG_CHANNEL, ERASED_CHANNEL, EXPUNGED_CHANNEL, OPERATIONAL_CHANNEL } from '../storage/config-changes.ts'
import { ENDPOINT_STATE_CHANNEL } from '../storage/endpoint-states.ts'
import { listen } from '../storage/listener.ts'
import { forgetMessagesOf } from '../storage/messages.ts'
import { OUTBOX_CHANNEL } from '../storage/outbox.ts'
import { QUEUE_CHANNEL, readQueueHint } from '../storage/queue-wakes.ts'
import { TOKENS_CHANNEL } from '../storage/revocations.ts'
import type { Dispatcher } from './dispatcher.ts'
import type { Parts } from './parts.ts'
import type { ConfigurationFollower } from './shared-configuration.ts'
import type { Stack } from './stack.ts'

interface Listening {
  readonly dispatcher?: Dispatcher | undefined
  readonly effects?: ConfigurationFollower | undefined
}

/** Forgets what a process has in memory of a database as others change it. */
export function listenForChanges(parts: Parts, { dispatcher, effects }: Listening, stack: Stack): void {
  const { config, configCache, states, messages, hints, operational, revocations } = parts
  const channels = {
    [CONFIG_CHANNEL]: (appId: string) => {
      configCache.forget(appId)
      operational.forget(appId)
    },
    [OPERATIONAL_CHANNEL]: () => operational.forgetAll(),
    [EXPUNGED_CHANNEL]: (messageId: string) => void messages.delete(messageId),
    [ERASED_CHANNEL]: (appId: string) => forgetMessagesOf(messages, appId),
    [ENDPOINT_STATE_CHANNEL]: (endpointId: string) => void states.changed(endpointId),
    [QUEUE_CHANNEL]: (hint: string) => hints.tell(readQueueHint(hint)),
    [TOKENS_CHANNEL]: () => revocations.changed(),
    ...(dispatcher === undefined ? {} : { [OUTBOX_CHANNEL]: () => dispatcher.wake() }),
    ...effects?.channels,
  }
  const listener = listen(config.databaseUrl, channels, () => {
    configCache.forgetAll()
    states.reload()
    operational.forgetAll()
    revocations.changed()
    messages.clear()
    dispatcher?.wake()
    effects?.missed()
  })
  stack.push(() => listener.stop())
}
