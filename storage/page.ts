/** How one page of a list is cut: ids sort by time, so a page is a range of ids. */
export interface Page {
  /** Rows wanted, 0 to `LIMITS.pageMax`. */
  readonly limit: number
  readonly order: 'ascending' | 'descending'
  /** The id (or name) the page starts after, exclusive; undefined starts at the beginning. */
  readonly from?: string | undefined
  /** True walks against the order, towards the beginning of the list. Rows are still shown in the list's order. */
  readonly backwards?: boolean | undefined
}

export interface PageOf<T> {
  readonly rows: T[]
  /** Nothing is left in the direction travelled. */
  readonly done: boolean
}

/** Collects the parameters of one statement: `add(value)` gives its placeholder. */
export interface Parameters {
  readonly values: unknown[]
  readonly add: (value: unknown) => string
}

export function createParameters(): Parameters {
  const values: unknown[] = []
  return {
    values,
    add: (value) => {
      values.push(value)
      return `$${values.length}`
    },
  }
}

/** Whether a page is walked towards greater ids. */
export function rises({ order, backwards }: Pick<Page, 'order' | 'backwards'>): boolean {
  return (order === 'ascending') !== (backwards === true)
}

/**
 * The end of a list's SELECT: position, direction and one row more than asked, which tells whether the list goes on.
 * @param column the sort key, unique in the list; a row comparison such as `(a, b)` works where `from` is cast alike
 * @returns text that begins with a condition, to be joined to the WHERE clause with AND
 */
export function pageClause(page: Page, column: string, parameters: Parameters): string {
  const rising = rises(page)
  const position = page.from === undefined ? 'true' : `${column} ${rising ? '>' : '<'} ${parameters.add(page.from)}`
  return `${position} ORDER BY ${column} ${rising ? 'ASC' : 'DESC'} LIMIT ${parameters.add(page.limit + 1)}`
}

/** Cuts what `pageClause` selected to the page, in the list's order. */
export function cutPage<T>(selected: T[], page: Page): PageOf<T> {
  const rows = selected.slice(0, page.limit)
  if (page.backwards === true) rows.reverse()
  return { rows, done: selected.length <= page.limit }
}

/** One page of pages of the same list that were read at several places; what several have, of the first. */
export function mergePages<T extends { readonly id: string }>(pages: readonly PageOf<T>[], page: Page): PageOf<T> {
  const byId = new Map<string, T>()
  for (const row of pages.flatMap(({ rows }) => rows)) if (!byId.has(row.id)) byId.set(row.id, row)
  const falls = page.order === 'descending'
  const all = [...byId.values()].sort((a, b) => (a.id < b.id !== falls ? -1 : 1))
  const rows = page.backwards === true ? all.slice(Math.max(0, all.length - page.limit)) : all.slice(0, page.limit)
  return { rows, done: pages.every(({ done }) => done) && all.length <= page.limit }
}
