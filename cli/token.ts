import { createToken } from '../api/token.ts'
import { readConfig } from '../config/index.ts'
import { DEFAULT_ORGANISATION } from '../domain/default-organisation.ts'
import { isId } from '../domain/ids.ts'
import { runCommand } from './command.ts'
import { readSecrets } from './data-dir.ts'
import { CommandFailure } from './failure.ts'

const HELP = `npm run --silent token -- [org_… | app_…]

Prints a bearer token of an organisation (the default one unless told), or of one application of the default organisation.
Signed with TIDINGS_JWT_SECRET, else with the secret that npm start keeps in TIDINGS_DATA_DIR.`

await runCommand({
  help: HELP,
  async main(args) {
    const [subject = DEFAULT_ORGANISATION, ...rest] = args
    if (rest.length > 0) throw new CommandFailure('usage', `one id at most, not also ${rest.join(' ')}`)
    const isApplication = isId('app', subject)
    if (!isApplication && !isId('org', subject)) {
      throw new CommandFailure('usage', `"${subject}" is no id of an organisation or application: org_ or app_ and 27 letters or digits`)
    }
    const config = readConfig()
    const { jwtSecret } = readSecrets(config, config.dataDir, false)
    const org = isApplication ? { org: DEFAULT_ORGANISATION } : {}
    process.stdout.write(`${await createToken({ secret: jwtSecret, subject, ...org })}\n`)
    return 0
  },
})
