/**
 * The boundaries of the house (ARCHITECTURE.md, "Folders"). `domain/` and `workflows/` run inside Temporal's deterministic
 * isolate, so an import of a Node builtin or of an activity's code is an error before it becomes a broken bundle.
 */

const TEMPORAL_IN_WORKFLOWS = '(^|/)node_modules/@temporalio/(workflow|common)/'

const only = (name, from, to, comment) => ({ name, severity: 'error', comment, from: { path: from }, to: { pathNot: to } })

/** Files of this repository that the folder may import, besides packages and builtins. */
const ownFiles = (name, folder, allowed) => ({
  name,
  severity: 'error',
  comment: `${folder}/ may import ${allowed.join('/, ')}/ only`,
  from: { path: `^${folder}/` },
  to: {
    path: '^(domain|workflows|activities|http|storage|config|api|workers|cli|portal|bench|test|deploy)/',
    pathNot: `^(${allowed.join('|')})/`,
  },
})

/** @type {import('dependency-cruiser').IConfiguration} */
export default {
  forbidden: [
    only('domain-is-pure', '^domain/', '^domain/', 'domain/ imports nothing but itself: no package, no Node builtin'),
    {
      name: 'workflows-take-types-of-activities',
      severity: 'error',
      comment: 'workflows/ may name the types of activities/, never their values',
      from: { path: '^workflows/' },
      to: { path: '^activities/', dependencyTypesNot: ['type-only'] },
    },
    only(
      'workflows-are-deterministic',
      '^workflows/',
      `^(workflows|domain|activities)/|${TEMPORAL_IN_WORKFLOWS}`,
      'workflows/ imports domain/, @temporalio/workflow and @temporalio/common; no Node builtin, no other package',
    ),
    ownFiles('activities-boundary', 'activities', ['activities', 'domain', 'storage', 'http']),
    ownFiles('http-boundary', 'http', ['http', 'domain']),
    ownFiles('storage-boundary', 'storage', ['storage', 'domain']),
    ownFiles('config-boundary', 'config', ['config', 'domain']),
    {
      name: 'postgres-in-storage-only',
      severity: 'error',
      comment: 'SQL lives in storage/: nothing else talks to Postgres (cli/ starts the embedded one)',
      from: { pathNot: '^(storage|cli|test|bench)/' },
      to: { path: '(^|/)node_modules/(pg|pg-pool|pg-native)/', dependencyTypesNot: ['type-only'] },
    },
    {
      name: 'nothing-imports-tests',
      severity: 'error',
      comment: 'test/ and bench/ are leaves',
      from: { pathNot: '^(test|bench)/' },
      to: { path: '^(test|bench)/' },
    },
    {
      name: 'no-cycles',
      severity: 'error',
      comment: 'two files that import each other are one file',
      from: {},
      to: { circular: true, viaOnly: { dependencyTypesNot: ['type-only'] } },
    },
    {
      name: 'no-undeclared-packages',
      severity: 'error',
      comment: 'every imported package is in package.json; the product imports no development package',
      from: { pathNot: '^(test|bench|\\.ci)/' },
      to: { dependencyTypes: ['npm-no-pkg', 'npm-unknown', 'npm-dev'], dependencyTypesNot: ['type-only'], pathNot: '@types/' },
    },
    { name: 'no-missing-files', severity: 'error', comment: 'an import that leads nowhere', from: {}, to: { couldNotResolve: true } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^(node_modules|\\.tidings|coverage|portal/dist)/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'require', 'node', 'default', 'types'] },
  },
}
