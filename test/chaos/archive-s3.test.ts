import { after, test } from 'node:test'
import { NO_S3, startS3 } from '../support/s3.ts'
import { archiveAndKill } from './archive-kills.ts'

const s3 = await startS3()

after(() => s3?.stop())

test(
  'workers that are killed while they archive in a bucket: every row is once in the archive or the database',
  { skip: s3 === undefined ? NO_S3 : false },
  (t) => archiveAndKill(t, s3!.bucket('chaos')),
)
