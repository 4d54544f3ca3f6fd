import type { Registry } from 'prom-client'
import { FALLBACKS, type Replicas } from '../storage/replicas.ts'
import { readCounter, readGauge } from './metrics-read.ts'

/** Where history is read from, and what the replicas that it may be read from are like. */
export function exposeReplicas(registry: Registry, replicas: Pick<Replicas, 'status' | 'counts'>): void {
  const readText = 'Reads of history by place: `primary`, or the host and port of a replica'
  readCounter(registry, { name: 'tidings_history_reads_total', help: readText, labels: ['place'] }, (add) => {
    add({ place: 'primary' }, replicas.counts().primary)
    for (const { name, reads } of replicas.status()) add({ place: name }, reads)
  })
  const fallbackText = 'Reads of history that went to the primary though there are replicas, by reason'
  readCounter(registry, { name: 'tidings_history_fallbacks_total', help: fallbackText, labels: ['reason'] }, (add) => {
    const { fallbacks } = replicas.counts()
    for (const reason of FALLBACKS) add({ reason }, fallbacks[reason])
  })
  const lagText = 'How old what a replica has may be; +Inf where that is not known'
  readGauge(registry, { name: 'tidings_replica_lag_seconds', help: lagText, labels: ['replica'] }, (add) => {
    for (const { name, lagMs } of replicas.status()) add({ replica: name }, lagMs / 1000)
  })
  const bytesText = 'Written by the primary and not applied by a replica when it was last seen'
  readGauge(registry, { name: 'tidings_replica_lag_bytes', help: bytesText, labels: ['replica'] }, (add) => {
    for (const { name, lagBytes } of replicas.status()) add({ replica: name }, lagBytes)
  })
  const usableText = 'Whether history may be read from a replica: 1, or 0 where it is away or too far behind'
  readGauge(registry, { name: 'tidings_replica_usable', help: usableText, labels: ['replica'] }, (add) => {
    for (const { name, usable } of replicas.status()) add({ replica: name }, usable ? 1 : 0)
  })
}
