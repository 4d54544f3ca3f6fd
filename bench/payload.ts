const MARK = '@@'

/**
 * A JSON object of exactly `bytes` bytes. `@@run|number@@` in one of its strings tells the sink which message it is, however
 * the service wraps or writes it anew.
 */
export function buildPayload(run: string, message: number, bytes: number): string {
  const head = `{"k":"${MARK}${run}|${message}${MARK}","type":"bench.event","pad":"`
  return `${head}${'x'.repeat(Math.max(0, bytes - head.length - 2))}"}`
}

/** The number of the message in a request's body; undefined where it is not one of `run`. */
export function messageOf(run: string, bytes: Buffer, from: number): number | undefined {
  const begin = bytes.indexOf(MARK, from)
  const end = begin < 0 ? -1 : bytes.indexOf(MARK, begin + MARK.length)
  if (end < 0) return undefined
  const [name, number] = bytes.toString('latin1', begin + MARK.length, end).split('|')
  return name === run && number !== undefined && /^\d+$/.test(number) ? Number(number) : undefined
}
