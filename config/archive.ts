/** Where message data goes that leaves the database. The variables of S3 are named as AWS has them. */
import { z } from 'zod'
import { webUrl } from './formats.ts'

const BUCKET = /^s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](\/[\w.=-]+)*\/?$/

const archiveUrl = z
  .string()
  .refine((text) => BUCKET.test(text) || /^file:\/\/\/./.test(text), 'must be file:///folder or s3://bucket/prefix')
  .refine(URL.canParse, 'is not a URL')

export const ARCHIVE_VARIABLES = {
  TIDINGS_ARCHIVE_URL: archiveUrl.optional(),
  AWS_ENDPOINT_URL_S3: webUrl({ credentials: false }).optional(),
  AWS_REGION: z.string().min(1).optional(),
  AWS_ACCESS_KEY_ID: z.string().min(1).optional(),
  AWS_SECRET_ACCESS_KEY: z.string().min(1).optional(),
  AWS_SESSION_TOKEN: z.string().min(1).optional(),
} as const

/** How the archive is reached. */
export interface ArchiveConfig {
  /** `file:///…` or `s3://bucket/prefix` */
  readonly url: string
  /** Of an S3 server that is not Amazon's. */
  readonly endpoint: string | undefined
  readonly region: string | undefined
  /** Undefined: what the AWS SDK finds by itself. */
  readonly credentials: { readonly accessKeyId: string; readonly secretAccessKey: string; readonly sessionToken?: string } | undefined
}

type Values = z.output<z.ZodObject<typeof ARCHIVE_VARIABLES>>

/** @returns undefined where nothing is archived */
export function archiveConfig(value: Values): ArchiveConfig | undefined {
  const { TIDINGS_ARCHIVE_URL: url, AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey } = value
  if (url === undefined) return undefined
  const session = value.AWS_SESSION_TOKEN === undefined ? {} : { sessionToken: value.AWS_SESSION_TOKEN }
  return {
    url,
    endpoint: value.AWS_ENDPOINT_URL_S3?.href,
    region: value.AWS_REGION,
    credentials: accessKeyId === undefined || secretAccessKey === undefined ? undefined : { accessKeyId, secretAccessKey, ...session },
  }
}

/** What speaks against variables together. Other programs' AWS variables matter to nobody where nothing is archived in a bucket. */
export function archiveProblems({ TIDINGS_ARCHIVE_URL: url, AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: key }: Values): string[] {
  if (url?.startsWith('s3:') !== true || (id === undefined) === (key === undefined)) return []
  const [missing, given] =
    id === undefined ? ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY'] : ['AWS_SECRET_ACCESS_KEY', 'AWS_ACCESS_KEY_ID']
  return [`${missing}: goes with ${given}`]
}
