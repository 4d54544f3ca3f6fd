import { escapeHtml as escape } from './html.ts'
import type { ApiDocument, DescribedOperation, DescribedParameter, DescribedReply, Json } from './openapi.ts'
import { exampleValue } from './schemas/example.ts'

export const DOCS_STYLE = `body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem;color:#1d2530}
h1,h2{line-height:1.2}h2{margin-top:2.5rem}a{color:#0b57a4}code,pre{font:13px/1.5 ui-monospace,monospace}
pre{background:#f5f7f9;padding:.75rem;overflow-x:auto}details{border:1px solid #d7dce2;border-radius:6px;margin:.5rem 0;padding:.5rem .75rem}
summary{cursor:pointer}.method{display:inline-block;min-width:4.5rem;font-weight:600;text-transform:uppercase}
.get{color:#0a7a3d}.post{color:#0b57a4}.put,.patch{color:#8a5a00}.delete{color:#b3261e}.what{color:#5b6572}
table{border-collapse:collapse;width:100%;margin:.5rem 0}td,th{text-align:left;vertical-align:top;border-top:1px solid #e4e8ec;padding:.25rem .5rem}`

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Markdown's code spans are all of it that descriptions use. */
function prose(text: unknown): string {
  if (typeof text !== 'string') return ''
  return escape(text)
    .replaceAll(/`([^`]+)`/g, '<code>$1</code>')
    .replaceAll('\n', '<br>')
}

function nameOf(ref: string): string {
  return ref.slice(ref.lastIndexOf('/') + 1)
}

/** The type of a value in a few words, named schemas as links. */
function typeText(schema: unknown): string {
  if (!isObject(schema)) return 'any'
  const { $ref, anyOf, type, items, additionalProperties } = schema
  if (typeof $ref === 'string') return `<a href="#${escape(nameOf($ref))}">${escape(nameOf($ref))}</a>`
  if (Array.isArray(anyOf)) return anyOf.map(typeText).join(' or ')
  const allowed: unknown = schema['enum'] ?? (schema['const'] === undefined ? undefined : [schema['const']])
  if (Array.isArray(allowed)) return allowed.map((value) => `<code>${escape(JSON.stringify(value))}</code>`).join(' or ')
  if (type === 'array') return `array of ${typeText(items)}`
  if (type === 'object' && isObject(additionalProperties) && schema['properties'] === undefined) {
    return `object of ${typeText(additionalProperties)}`
  }
  return escape([type].flat().join(' or ') || 'any')
}

const RULES = ['default', 'format', 'minimum', 'exclusiveMinimum', 'maximum', 'minLength', 'maxLength', 'minItems', 'maxItems', 'pattern']

/** The rules of a value, those of the alternatives of a nullable one included. */
function ruleText(schema: unknown): string {
  if (!isObject(schema)) return ''
  const own = RULES.filter((name) => schema[name] !== undefined).map(
    (name) => `${name} <code>${escape(JSON.stringify(schema[name]))}</code>`,
  )
  const inner = Array.isArray(schema['anyOf']) ? schema['anyOf'].map(ruleText).filter((text) => text !== '') : []
  return [...own, ...inner].join(', ')
}

function row(name: string, note: string, schema: unknown, description: unknown): string {
  const said = [prose(description), ruleText(schema)].filter((text) => text !== '').join('<br>')
  return `<tr><td><code>${escape(name)}</code></td><td>${note}</td><td>${typeText(schema)}</td><td>${said}</td></tr>`
}

function parameterRows(parameters: readonly DescribedParameter[]): string {
  return parameters.map(({ name, in: place, schema, description }) => row(name, place, schema, description)).join('\n')
}

function schemaSection([name, schema]: readonly [string, Json]): string {
  const { properties, required } = schema
  const fields = isObject(properties) ? Object.entries(properties) : []
  const isRequired = (field: string) => Array.isArray(required) && required.includes(field)
  const rows = fields.map(([field, part]) =>
    row(field, isRequired(field) ? 'required' : '', part, isObject(part) ? part['description'] : undefined),
  )
  const content = rows.length === 0 ? `<p>${typeText(schema)}</p>` : `<table>${rows.join('\n')}</table>`
  return `<h3 id="${escape(name)}">${escape(name)}</h3><p>${prose(schema['description'])}</p>${content}`
}

/** A body with the required fields. */
function exampleBody(schema: Json | undefined): string {
  const required = schema?.['required']
  const properties = schema?.['properties']
  if (!Array.isArray(required) || !isObject(properties)) return '{}'
  const parts = required.map((name: string) => [name, exampleValue(properties[name] as Json, 0)] as const)
  return JSON.stringify(Object.fromEntries(parts))
}

function curl(document: ApiDocument, path: string, method: string, { requestBody, security }: DescribedOperation): string {
  const address = path.replaceAll(/\{(\w+)\}/g, (_, name: string) => `$${name.toUpperCase()}`)
  const lines = [`curl ${method === 'get' ? '' : method === 'head' ? '--head ' : `-X ${method.toUpperCase()} `}"$SERVER${address}"`]
  if (security === undefined) lines.push('-H "Authorization: Bearer $TOKEN"')
  if (requestBody !== undefined) {
    const name = nameOf(String(requestBody.content['application/json'].schema['$ref']))
    lines.push(`-H 'Content-Type: application/json'`, `-d '${exampleBody(document.components.schemas[name])}'`)
  }
  return `<pre>${escape(lines.join(' \\\n  '))}</pre>`
}

function replyRow(document: ApiDocument, status: string, reply: DescribedReply): string {
  const found = '$ref' in reply ? document.components.responses[nameOf(reply.$ref)] : reply
  if (found === undefined || '$ref' in found) throw new Error(`The answer ${status} refers to nothing`)
  const schema = found.content?.['application/json'].schema
  return `<tr><td>${status}</td><td>${schema === undefined ? 'empty' : typeText(schema)}</td><td>${prose(found.description)}</td></tr>`
}

function operationSection(document: ApiDocument, path: string, method: string, operation: DescribedOperation): string {
  const { operationId, summary, description, parameters, requestBody, responses } = operation
  const body = requestBody === undefined ? '' : `<p>Body: ${typeText(requestBody.content['application/json'].schema)}</p>`
  const replies = Object.entries(responses).map(([status, reply]) => replyRow(document, status, reply))
  return `<details id="${escape(operationId)}"><summary><span class="method ${method}">${method}</span> <code>${escape(path)}</code>
<span class="what">${escape(summary)}</span></summary><p>${prose(description)}</p>${curl(document, path, method, operation)}
${parameters.length === 0 ? '' : `<table>${parameterRows(parameters)}</table>`}${body}<table>${replies.join('\n')}</table></details>`
}

/** The OpenAPI document as one page for readers, without scripts; its style is at `/docs/style.css`. */
export function docsPage(document: ApiDocument): string {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method, operation })),
  )
  const sections = document.tags.map(({ name }) => {
    const own = operations.filter(({ operation }) => operation.tags.includes(name))
    return `<h2>${escape(name)}</h2>${own.map((one) => operationSection(document, one.path, one.method, one.operation)).join('\n')}`
  })
  const { title, version, description } = document.info
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escape(title)}</title><link rel="stylesheet" href="/docs/style.css"></head><body>
<h1>${escape(title)} ${escape(version)}</h1><p>${prose(description)}
The same as an <a href="/api/v1/openapi.json">OpenAPI document</a>.</p>
${sections.join('\n')}<h2>Schemas</h2>${Object.entries(document.components.schemas).map(schemaSection).join('\n')}</body></html>`
}
