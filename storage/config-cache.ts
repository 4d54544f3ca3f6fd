import { LRUCache } from 'lru-cache'
import type { Signer } from '../http/signing.ts'

export interface CachedApplication {
  readonly id: string
  readonly orgId: string
  readonly uid: string | null
}
export interface ConfigCache {
  /** The live application of this organisation by id or uid. */
  application(orgId: string, idOrUid: string): Promise<CachedApplication | undefined>
}
