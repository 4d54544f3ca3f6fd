const MARK = '@@'

/**
 * A JSON object of exactly `bytes` bytes. `@@run|number@@` in one of its strings tells the sink which message it is, however
 * the service wraps or writes it anew.
 */
export function buildPayload(run: string, message: number, bytes: number): string {
  const head = `{"k":"${MARK}${run}|${message}${MARK}","type":"bench.event","pad":"`
  return `${head}${'x'.repeat(Math.max(0, bytes - head.length - 2))}"}`
}

/** The numbers of the messages in a request's body, without those of other runs. */
export function messagesOf(run: string, bytes: Buffer): number[] {
  const numbers: number[] = []
  for (let begin = bytes.indexOf(MARK); begin >= 0;) {
    const end = bytes.indexOf(MARK, begin + MARK.length)
    if (end < 0) break
    const [name, number] = bytes.toString('latin1', begin + MARK.length, end).split('|')
    if (name === run && number !== undefined && /^\d+$/.test(number)) numbers.push(Number(number))
    begin = bytes.indexOf(MARK, end + MARK.length)
  }
  return numbers
}
