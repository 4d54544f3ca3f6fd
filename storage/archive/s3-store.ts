import {
  DeleteObjectsCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  type GetObjectCommandInput,
} from '@aws-sdk/client-s3'
import { ArchiveError, bodyBytes, objectMissing, type ObjectStore } from './object-store.ts'

export interface S3Settings {
  /** `s3://bucket/prefix` */
  readonly url: string
  /** Of a server that is not Amazon's; undefined: Amazon's of the region. */
  readonly endpoint?: string | undefined
  readonly region?: string | undefined
  /** Undefined: what the AWS SDK finds: a role of the pod or the machine, a profile. */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string; readonly sessionToken?: string } | undefined
}

const DELETED_TOGETHER = 1000
const CONNECT_TIMEOUT_MS = 5000
const REQUEST_TIMEOUT_MS = 60_000
const ATTEMPTS = 4
// Servers of one region only take any name; Amazon's need the bucket's.
const ANY_REGION = 'us-east-1'

/** Objects in a bucket that is there. Each request is repeated where the server does not answer. */
export function createS3Store(settings: S3Settings): ObjectStore {
  const { hostname: bucket, pathname } = new URL(settings.url)
  const prefix = pathname.replace(/^\/+|\/+$/g, '')
  const before = prefix === '' ? '' : `${prefix}/`
  const client = createClient(settings)
  const url = `s3://${bucket}/${before}`
  const get = async (key: string, range: Pick<GetObjectCommandInput, 'Range'>) => {
    const { Body } = await client.send(new GetObjectCommand({ Bucket: bucket, Key: before + key, ...range }))
    return Buffer.from((await Body?.transformToByteArray()) ?? [])
  }
  return {
    url,
    put: (key, body) =>
      telling(url, key, async () => {
        await client.send(new PutObjectCommand({ Bucket: bucket, Key: before + key, Body: bodyBytes(body) }))
      }),
    get: (key) => telling(url, key, () => get(key, {})),
    getRange: (key, start, end) =>
      telling(url, key, () => (end <= start ? Promise.resolve(Buffer.alloc(0)) : get(key, { Range: `bytes=${start}-${end - 1}` }))),
    async *list(under) {
      let token: string | undefined
      do {
        const page = new ListObjectsV2Command({ Bucket: bucket, Prefix: before + under, ContinuationToken: token })
        const { Contents = [], NextContinuationToken } = await telling(url, under, () => client.send(page))
        for (const { Key = '', Size = 0, LastModified = new Date(0) } of Contents) {
          yield { key: Key.slice(before.length), bytes: Size, modifiedAt: LastModified }
        }
        token = NextContinuationToken
      } while (token !== undefined)
    },
    async delete(keys) {
      for (let at = 0; at < keys.length; at += DELETED_TOGETHER) {
        const Objects = keys.slice(at, at + DELETED_TOGETHER).map((key) => ({ Key: before + key }))
        const command = new DeleteObjectsCommand({ Bucket: bucket, Delete: { Objects, Quiet: true } })
        const { Errors = [] } = await telling(url, keys[at]!, () => client.send(command))
        const failed = Errors.find(({ Code }) => Code !== 'NoSuchKey')
        if (failed !== undefined)
          throw new ArchiveError('store_failed', `${url} does not delete ${failed.Key}: ${failed.Message ?? failed.Code}`)
      }
    },
    close: () => client.destroy(),
  }
}

function createClient({ endpoint, region, credentials }: S3Settings): S3Client {
  return new S3Client({
    region: region ?? ANY_REGION,
    // Buckets as a part of the path: names of hosts for each are Amazon's own.
    ...(endpoint === undefined ? {} : { endpoint, forcePathStyle: true }),
    ...(credentials === undefined ? {} : { credentials }),
    maxAttempts: ATTEMPTS,
    requestHandler: { connectionTimeout: CONNECT_TIMEOUT_MS, requestTimeout: REQUEST_TIMEOUT_MS },
  })
}

/** What a server answers is told with where and what was asked. */
async function telling<T>(url: string, key: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    const name = cause instanceof Error ? cause.name : ''
    if (name === 'NoSuchKey' || name === 'NotFound') throw objectMissing(url, key, cause)
    const why = cause instanceof Error ? `${name}: ${cause.message}` : String(cause)
    throw new ArchiveError('store_failed', `${url} does not serve ${key || 'its list'} (${why})`, { cause })
  }
}
