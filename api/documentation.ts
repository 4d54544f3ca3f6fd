import { Router } from 'express'
import manifest from '../package.json' with { type: 'json' }
import { DOCS_STYLE, docsPage } from './docs-page.ts'
import { describeApi } from './openapi.ts'
import type { RouteTable } from './routing.ts'

/** Nothing but the page and its own style: descriptions are texts of this repository, but a mistake in one stays harmless. */
const PAGE_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

/** The OpenAPI document at `/api/v1/openapi.json`, and the same for readers at `/docs`. Both need no token. */
export function createDocumentation(table: RouteTable): Router {
  const described = describeApi(table, manifest.version)
  const json = JSON.stringify(described)
  const page = docsPage(described)
  const router = Router({ caseSensitive: true })
  router.get('/api/v1/openapi.json', (_request, response) => void response.type('json').send(json))
  router.get('/docs', (_request, response) => void response.setHeader('content-security-policy', PAGE_POLICY).type('html').send(page))
  router.get('/docs/style.css', (_request, response) => void response.type('css').send(DOCS_STYLE))
  return router
}
