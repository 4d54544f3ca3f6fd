// Classes of SQLSTATE that say nothing about the statement: connection, resources, operator intervention, transaction rollback.
const PASSING_CLASSES = new Set(['08', '53', '57', '58', '40'])
// Read-only: the server is a standby, or has just been made one; the pool's next connection may find the new leader.
const READ_ONLY = '25006'
const UNIQUE_VIOLATION = '23505'
const CONNECTION_CODES = new Set(['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'ENOENT', 'ENOTFOUND', 'EAI_AGAIN'])

/** Whether Postgres (or the way to it) is at fault for now, so that the same statement may succeed later. */
export function isPassingFault(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  const code = 'code' in error && typeof error.code === 'string' ? error.code : ''
  if (CONNECTION_CODES.has(code)) return true
  if (/^[0-9A-Z]{5}$/.test(code)) return code === READ_ONLY || PASSING_CLASSES.has(code.slice(0, 2))
  return /connection terminated|timeout exceeded when trying to connect|client has encountered a connection error|not queryable/i.test(
    error.message,
  )
}

/** Whether a row that was to be inserted is there already. */
export function isUniqueViolation(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === UNIQUE_VIOLATION
}
