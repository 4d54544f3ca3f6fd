/** What regions outside of a zone have of an application that must not leave it. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'

/**
 * Searches everything that is on disk: tables, indexes, write-ahead logs, histories of Temporal, logs of processes.
 * @returns `file: text` of each that was found
 */
export function searchFolders(folders: readonly string[], texts: readonly string[]): { readonly files: number; readonly found: string[] } {
  const found: string[] = []
  let files = 0
  for (const folder of folders) {
    for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
      if (!entry.isFile()) continue
      const path = join(entry.parentPath, entry.name)
      if (statSync(path).size === 0) continue
      files++
      const content = readFileSync(path)
      for (const text of texts) if (content.includes(text)) found.push(`${path}: ${text}`)
    }
  }
  return { files, found }
}
