/** Why a command could not do its work. */
export type FailureCode =
  | 'usage'
  | 'port_taken'
  | 'data_dir_unusable'
  | 'data_dir_locked'
  | 'postgres_failed'
  | 'temporal_failed'
  | 'temporal_missing'
  | 'clusters_incompatible'
  | 'failover_failed'
  | 'failover_refused'
  | 'download_corrupt'
  | 'child_died'
  | 'service_failed'
  | 'not_running'
  | 'version_not_ready'
  | 'version_not_drained'
  | 'not_archived'
  | 'replay_refused'

/** An expected failure of a command: its message is the one line the user reads, naming the cause and the mend. */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure'
  readonly code: FailureCode

  constructor(code: FailureCode, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}

/** The text of anything thrown, in one line. */
export function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message || error.name : String(error)
  return text.replace(/\s*\n\s*/g, '; ').trim()
}
