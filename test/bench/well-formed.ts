/** What is wrong with a document of XML: tags that do not match, signs that are not escaped, numbers that are none. */
export function problemsOf(xml: string): string[] {
  const problems: string[] = []
  const open: string[] = []
  const tags = /<(\/?)([\w]+)((?:\s+[\w:-]+="[^"<&]*(?:&\w+;[^"<&]*)*")*)\s*(\/?)>/g
  const rest = xml.replace(tags, (_tag, closes: string, name: string, _attributes: string, single: string) => {
    if (closes !== '') {
      const last = open.pop()
      if (last !== name) problems.push(`</${name}> closes ${last ?? 'nothing'}`)
    } else if (single === '') open.push(name)
    return ''
  })
  problems.push(...open.map((name) => `<${name}> is not closed`))
  if (/[<]|&(?!amp;|lt;|gt;|quot;)/.test(rest)) problems.push('a sign that is not escaped')
  if (/NaN|Infinity|undefined/.test(xml)) problems.push('a number that is none')
  return problems
}
