/** What is asked for is kept in other zones: the request is for a region of one of them. Nothing has been stored for it here. */
export class ElsewhereError extends Error {
  override readonly name = 'ElsewhereError'
  /** Asked in this order, until one has it. */
  readonly zones: readonly [string, ...string[]]

  constructor(zones: readonly [string, ...string[]]) {
    super('it is kept in another zone')
    this.zones = zones
  }
}
