/**
 * Owns what is created without naming an organisation: `npm start` makes its first application here and `npm run token`
 * gives its tokens. A constant, so that tokens stay good when the data directory is made anew; the Svix server has the
 * same default.
 */
export const DEFAULT_ORGANISATION = 'org_23rb8YdGqMT0qIzpgGwdXfHirMu'
