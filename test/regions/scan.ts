import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Pool } from '../../storage/pool.ts'

/** Rows of every table that hold the text, as `table: text`. */
export async function rowsWith(pool: Pool, texts: Iterable<string>): Promise<string[]> {
  const { rows: tables } = await pool.query<{ name: string }>(
    `SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'`,
  )
  const found: string[] = []
  for (const { name } of tables) {
    for (const text of texts) {
      const { rowCount } = await pool.query(`SELECT 1 FROM "${name}" t WHERE strpos(t::text, $1) > 0 LIMIT 1`, [text])
      if (rowCount !== 0) found.push(`${name}: ${text}`)
    }
  }
  return found
}

/** Which of the texts a server has anywhere on disk: tables, indexes, write-ahead logs, its log. */
export function textsOnDisk(folder: string, texts: Iterable<string>): string[] {
  const files = readdirSync(folder, { withFileTypes: true, recursive: true }).filter((entry) => entry.isFile())
  const wanted = [...texts]
  return files.flatMap((entry) => {
    const content = readFileSync(join(entry.parentPath, entry.name))
    return wanted.filter((text) => content.includes(text)).map((text) => `${text} in ${entry.name}`)
  })
}
