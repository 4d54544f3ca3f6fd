/** Every limit of the product, in one place. `docs/limits.md` lists them for users. */

export const LIMITS = {
  /** Bytes of a request body; over it 413 (the Svix API's figure). */
  requestBodyMaxBytes: 2_097_152,
  /** Characters of a uid, an event type's or a channel's name. */
  nameMaxChars: 256,
  /** Characters of an application's name and an endpoint's description. */
  textMaxChars: 1024,
  urlMaxChars: 2048,
  metadataMaxBytes: 4096,
  headerValueMaxChars: 4096,
  headersPerEndpoint: 64,
  endpointsPerApplication: 20_000,
  channelsPerEndpoint: 10,
  channelsPerMessage: 5,
  eventTypesPerEndpoint: 512,
  /** Characters of a text of certificates or of a private key, and certificates in it. */
  pemMaxChars: 16_384,
  certificatesMax: 10,
  oauth2ScopesMax: 50,
  /** A payload filter: characters, and nodes and levels of its syntax tree. */
  filterMaxChars: 1024,
  filterMaxNodes: 200,
  filterMaxDepth: 32,
  /** Events in one request to an endpoint, how long the first of them waits for others, and bytes of its body: least, default, most. */
  batchingMaxEvents: 100,
  batchingMaxLingerMs: 1000,
  batchingMinBytes: 1024,
  batchingDefaultBytes: 1_048_576,
  batchingMaxBytes: 8_388_608,
  /** Deliveries that are read at a time, to be cut into batches. */
  batchRowsPerRead: 500,
  /** Characters kept of an endpoint's answer to a batch, once for each of its events. */
  batchResponseMaxChars: 1000,
  orderingKeyMaxChars: 256,
  /** How long a publish waits for others, or for what was published before it, until it goes on all the same. */
  publishWaitMaxMs: 1000,
  /** Publishes of one process, and bytes of their payloads, that wait or are being committed; over it 429. */
  publishesWaitingMax: 2000,
  publishesWaitingMaxBytes: 67_108_864,
  /** Messages that a dispatcher holds in memory to be started; what is accepted besides waits in Postgres for the sweep. */
  startsWaitingMax: 5000,
  /** Messages of one request that publishes several. */
  messagesPerBatch: 100,
  /** How far ahead `deliverAt` may be. */
  deliverAtMaxMs: 2_592_000_000,
  /** Messages that one request cancels. */
  cancelMaxPerRequest: 1000,
  /** Due messages that one statement puts into the outbox. */
  releaseBatch: 500,
  /** Applications of a broadcast that one transaction serves, and characters of payload in it. */
  broadcastBatch: 200,
  broadcastBatchMaxChars: 8_388_608,
  pageDefault: 50,
  pageMax: 250,
  /** How far back message and attempt lists reach. */
  historyMaxDays: 90,
  payloadRetentionMinDays: 5,
  payloadRetentionMaxDays: 90,
  /** Days for which attempts, and the audit log, can be kept. */
  retentionMaxDays: 3650,
  /** Days for which tables are made ahead. */
  partitionDaysAhead: 7,
  /** Rows that one statement of the retention removes of a table that is not dropped by days. */
  retentionRemovedRows: 5000,
  /** Days for which tables can stay in the hot tablespace. */
  hotMaxDays: 90,
  /** MB of a table that one second may copy into the warm tablespace. */
  warmRateMaxMb: 10_000,
  /** Bytes of a table that one statement copies there, about. */
  warmStepBytes: 8_388_608,
  /** How long one run of the retention moves tables; the next goes on. */
  warmRunMs: 2_700_000,
  /** Bytes of a table for what has no day, which is read while everybody waits for a table to be exchanged; over it none is. */
  warmDefaultMaxBytes: 33_554_432,
  /** Old secrets of one endpoint that still sign. */
  liveOldSecretsMax: 10,
  /** Bytes of a secret that Tidings makes. */
  secretBytes: 24,
  secretGraceDefaultS: 86_400,
  secretGraceMaxS: 604_800,
  /** A token of a customer's portal: 28 days. */
  portalTokenLifetimeS: 2_419_200,
  /** Verified tokens that one API process remembers. */
  tokenCacheEntries: 10_000,
  /** How long a verified token is believed before it is verified again. */
  tokenCacheMs: 300_000,
  tokenMaxChars: 8192,
  /** How long tokens that are being replaced may be left: 7 days. */
  tokenGraceMaxS: 604_800,
  /** How far back a recovery (14 days) and statistics (28 days) may reach, each with 5 minutes of clock difference. */
  recoverMaxMs: 1_209_600_000 + 300_000,
  statsMaxMs: 2_419_200_000 + 300_000,
  /** Databases that message data is spread over. */
  shardsMax: 64,
  /** Points of one history of statistics. */
  statsPointsMax: 1500,
  /** How often a dispatcher looks whether a minute is to be rolled up, and how long after its end it is. */
  rollupEveryMs: 10_000,
  rollupSettleMs: 5000,
  /** Minutes that are over at least so long are not computed anew, unless an attempt is recorded of them when it is this old. */
  rollupWindowMs: 180_000,
  rollupLateMs: 90_000,
  /** Minutes that one turn computes; after a pause there are more turns. */
  rollupTurnMinutes: 60,
  /** How long one statement of a turn may take, and how long a process that stands still keeps others from theirs. */
  rollupStatementMs: 600_000,
  rollupStandstillMs: 60_000,
  rollupMinutesKeptDays: 7,
  rollupHoursKeptDays: 90,
  rollupDaysKeptDays: 400,
  /** Dead letters that one request puts back, and how many of them at a time. */
  redriveMaxPerRequest: 10_000,
  redriveBatch: 500,
  /** Messages that one transaction of an erasure deletes, and attempts that were recorded meanwhile. */
  erasureBatch: 500,
  /** After the caches of all processes have forgotten the application (60 s) an erasure looks again. */
  erasureLastPassAfterMs: 90_000,
  /** A reconciliation: messages, and deliveries that nothing is known of, that it looks at together. */
  reconcileMessages: 500,
  reconcileDeliveries: 1000,
  /** Rows of the outbox from which on it waits. */
  reconcileOutboxMax: 1000,
  /** What was accepted so shortly before it began is left to those who have it in hand. */
  reconcileMarginMs: 10_000,
  /** How far what Temporal lists may be behind what it has begun. */
  reconcileListLagMs: 3000,
  /** Messages of a lost primary that are compared, and accepted, together. */
  unreplicatedCompared: 5000,
  unreplicatedAccepted: 100,
  /** Shared configuration: how often its clock is renewed, and how old a copy may be until reads go to where it is written. */
  configClockEveryMs: 250,
  configCopyMaxAgeMs: 1000,
  /** How long a member of its cluster may take to say whether it is the leader, and a statement or a commit of a change. */
  configMemberMs: 2000,
  configStatementMs: 5000,
  /** Where its clock has stood still for so long no quorum confirms, and changes are refused before they are written. */
  configClockStandsMs: 3000,
  /** How long a change that is written waits for this region's copy before it is answered all the same. */
  configCopyWaitMs: 2000,
  /** How often read replicas are looked at, how long one look may take, and how long one that fails is left alone at most. */
  replicaLookEveryMs: 1000,
  replicaLookTimeoutMs: 2000,
  replicaRestMaxMs: 15_000,
  /** A statement at a replica; over it the primary is asked. */
  replicaStatementMs: 5000,
  /** How long a read waits for a replica to have what the process has just written; then it goes to the primary. */
  replicaWaitMs: 50,
  /** Applications whose last change a process remembers, each for as long as a replica may be behind. */
  replicaWritesKept: 100_000,
  /** Levels of arrays and objects in a request's JSON. */
  jsonDepthMax: 64,
  requestHeadersMax: 100,
  /** Bytes of a request's first line and headers together; over it 431. */
  requestHeadersMaxBytes: 16_384,
  requestTargetMaxChars: 8192,
  /** How long a client may take for a request's headers, and for all of it. */
  requestHeadersTimeoutMs: 15_000,
  requestReadTimeoutMs: 60_000,
  /** Connections of clients that wait to be accepted; the system's own limit (`net.core.somaxconn`) may be lower. */
  connectionsToAcceptMax: 4096,
  /** An unused connection of a client; longer than the 60 s that load balancers keep theirs. */
  clientIdleMs: 75_000,
  /** Requests a second of one token in one process; also how many may come at once. */
  requestsPerTokenPerSecond: 20_000,
  eventTypesPerOrganisation: 10_000,
  /** How long the answer to a request with an idempotency key is given again. */
  idempotencyKeptMs: 43_200_000,
  /** How long a repeated request waits for the first one, and how long the first one may take before another takes its key over. */
  idempotencyWaitMs: 5000,
  idempotencyKeyMaxChars: 256,
  /** The development inbox: requests kept per name, names, bytes kept of a body, and the longest asked-for delay. */
  inboxKept: 100,
  inboxNames: 100,
  inboxBodyMaxBytes: 262_144,
  inboxDelayMaxMs: 60_000,

  groupLingerMaxMs: 1000,
  /** Events in one fan-out: 100 message ids of 31 characters need the raised search-attribute limit of our servers. */
  groupMaxMessages: 100,
  /** Where the server is not ours its search attributes may end at 2,048 bytes: 60 ids fit, 61 do not. */
  groupMaxMessagesForeignServer: 55,
  /** Bytes of event type names in the search attribute of one fan-out. */
  eventTypesAttributeMaxBytes: 1800,
  /** Deliveries whose first attempts one workflow task may hold (10,000 ended in GrpcMessageTooLarge). */
  deliveriesPerTask: 1000,
  /** Up to here each endpoint's first attempts are a local activity of their own; beyond, they share one. */
  activityPerEndpointMaxDeliveries: 10,
  /** Groups whose first attempts were begun with their start and wait for a run that takes them over; others wait for theirs. */
  begunGroupsMax: 200,
  /** How long they wait for it before they are recorded without one: a lost task is executed elsewhere after 10 s, as is a lost start. */
  begunUnrecordedMs: 7000,
  /** How long they are remembered for it. */
  begunKeptMs: 60_000,
  /** Pending remote activities of one workflow (2,001 blocked it); more become fan-out/<group>/<n>. */
  pendingActivitiesPerWorkflow: 300,
  /** So many endpoints that fail in one slice are looked at together before each has its activity. */
  failedLookedAtFrom: 5,
  /** Waiting rows that the autoscaler counts, of the outbox and of each endpoint: what is over it looks like it. */
  scalingRowsCounted: 1_000_000,
  /** How long samples and decisions of the autoscaler are kept: 30 days. */
  scalingKeptMs: 2_592_000_000,
  /** Worker processes that an autoscaler starts on its own machine. */
  localWorkersMax: 256,
  /** Rows in one statement of the attempts writer. */
  attemptsPerFlush: 500,
  /** Messages accepted by one statement. */
  messagesPerCommit: 200,

  /** Bytes kept of an endpoint's answer, capped while reading. */
  responseBodyMaxBytes: 20_000,
  connectTimeoutMs: 5000,
  /** One region's call of another, and bytes of the answer. */
  regionCallTimeoutMs: 5000,
  regionAnswerMaxBytes: 1_048_576,
  /** Connecting to an endpoint's host, to find its nearest region, and asking a region how long that takes. */
  connectTimeMaxMs: 1500,
  regionMeasureTimeoutMs: 3000,
  /** Applications with a zone that another region is told of at a time, how long a change waits for that, and when who has not heard is told again. */
  applicationZonesTold: 100,
  applicationZoneWaitMs: 1000,
  applicationZoneTellAgainMs: 10_000,
  /** Until the answer to a request that was passed on to another region begins, and between its parts. */
  regionForwardTimeoutMs: 30_000,
  /** A call that hands deliveries over: bytes of messages in it, about, of its body at most, and from how many on it is compressed. */
  handOverBytes: 1_048_576,
  handOverBodyMaxBytes: 33_554_432,
  handOverGzipFromBytes: 1024,
  /** Messages, and their endpoints, in one call. */
  handOverEndpointsMax: 20_000,
  /** Until another region has taken what one call hands over, and how long the first try of a group may take. */
  handOverTimeoutMs: 20_000,
  handOverFirstTimeoutMs: 1000,
  /**
   * How long a region that did not answer is not tried first. Meanwhile few groups of each process try it, and the others wait so
   * long, or until it has answered one of those.
   */
  handOverRestMs: 2000,
  handOverProbers: 3,
  handOverLongWaitMs: 300_000,
  /** Groups that are handed over at a time when a region is back. */
  handOverDrainGroups: 8,
  /** How long deliveries wait for a region until they are attempted here, and for one that does not know their endpoints. */
  handOverWaitMaxMs: 600_000,
  handOverUnknownMaxMs: 60_000,
  /** Calls of one process to one region at a time. */
  handOversPerRegion: 10,
  requestTimeoutMs: 30_000,
  requestTimeoutMaxMs: 60_000,
  /** How long a first attempt may hold its local activity before it is handed to a remote one. */
  firstAttemptHoldMs: 1000,
  /** Waiting for an endpoint's own connections inside a first attempt. */
  endpointInFlightPerWorker: 10,
  connectionsPerHost: 10,
  requestsInFlightPerLane: 100,
  /** Connections of one lane that are open before they are needed, one for each of the hosts with the most requests. */
  connectionsKeptWarm: 10,
  connectionIdleMs: 60_000,
  connectionLifetimeMs: 300_000,
  /** Answers of name servers: names, and addresses of each of IPv4 and IPv6, that one process keeps, and for how long at most. */
  dnsNamesKept: 10_000,
  dnsAddressesPerFamily: 8,
  dnsKeptMaxMs: 300_000,
  /** The same for answers of the system, which name no time to live, and for failures: shorter than the first delay of a retry. */
  dnsSystemKeptMs: 10_000,
  dnsFailureKeptMs: 500,
  /** How long an answer serves beyond its time where no name server answers, and how long one is waited for then. */
  dnsStaleMs: 60_000,
  dnsStaleAfterMs: 1000,
  /** TLS sessions, one for each host, that one process can continue without a full handshake. */
  tlsSessionsKept: 5000,
  /** Client certificates and authorities whose connections one lane keeps apart. */
  credentialPoolsPerLane: 500,
  /** Fetching a token, or asking for permission, within the time limit of the request. */
  accessTimeoutMs: 10_000,
  /** Tokens that one process keeps, how long before their end they are fetched anew, and how long one is kept that names no end. */
  oauth2TokensKept: 10_000,
  oauth2RenewBeforeMs: 30_000,
  oauth2TokenDefaultMs: 300_000,
  /** Endpoints whose permission one process remembers, and how long. */
  permissionsKept: 50_000,
  permissionKeptMs: 86_400_000,

  /** How long a process keeps applications and endpoints in memory, and how long before its end what is used is loaded again. */
  cacheLifeMs: 60_000,
  cacheRefreshBeforeMs: 10_000,
  /** Applications whose endpoints one statement loads. */
  cacheLoadGroup: 100,
  /** Bytes of the applications' names and ids in memory, besides their endpoints (`TIDINGS_CACHE_MB`). */
  cacheApplicationsMaxBytes: 10_000_000,
  /** Loaded when a process starts: so many applications that published last, of so many of the newest messages. */
  cacheWarmApplications: 2000,
  cacheWarmMessages: 20_000,
  cacheWarmMaxMs: 5000,
  /** How long Redis keeps an application's endpoints, and how long before that they are loaded from Postgres again. */
  sharedCacheLifeMs: 300_000,
  sharedCacheRefreshBeforeMs: 60_000,
  /** Redis is not waited for longer, and left alone for some time after that. */
  sharedCacheTimeoutMs: 100,
  sharedCacheRestMs: 1000,
  /** Changes that Redis could not be told of, to be told when it is back; over it, it is not read for `sharedCacheLifeMs`. */
  sharedCacheUntoldMax: 10_000,

  /** One request of the autoscaler to the Kubernetes API. */
  kubernetesTimeoutMs: 10_000,
  /** Endpoints that have labels of their own in the metrics of one process (`TIDINGS_METRICS_ENDPOINTS`), and the most that may be set. */
  metricsEndpoints: 20,
  metricsEndpointsMax: 500,
  /** Endpoints that are counted to find the busiest, and how often those are chosen anew. */
  metricsEndpointsCounted: 20_000,
  metricsEndpointsTurnMs: 60_000,
  /** Rows of each kind that are counted at most, how often, and how long Postgres is waited for. */
  queueDepthMax: 100_000,
  queueDepthEveryMs: 15_000,
  queueDepthTimeoutMs: 2000,

  /** Archive: raw bytes and rows of a row group, and of an object. */
  archiveRowGroupBytes: 16_777_216,
  archiveRowGroupRows: 10_000,
  archiveObjectBytes: 134_217_728,
  archiveObjectRows: 500_000,
  /** Bytes at the end of an object that are read first: the index of its row groups is there. */
  archiveFooterBytes: 65_536,
  /** Rows whose keys one statement reads, bytes of rows that one reads, about, and applications (or endpoints) that it looks up. */
  archiveKeysPerRead: 5000,
  archiveReadBytes: 8_388_608,
  archiveGroupsPerRead: 50_000,
  archiveGroupsTogether: 500,
  /** An object that no manifest names is deleted after this time: nobody writes it any more. */
  archiveOrphanMs: 86_400_000,
  /** Days before the one that is archived whose objects are looked through for such. */
  archiveOrphanDays: 3,
  /** Whether a message is archived: days and answers that one process remembers, how long, lookups at a time, and how long one may take. */
  archiveLookupDays: 200,
  archiveLookupAnswers: 10_000,
  archiveLookupKeptMs: 300_000,
  archiveLookupsAtOnce: 4,
  archiveLookupMs: 3000,

  retryScheduleMaxSteps: 30,
  retryDelayMaxMs: 86_400_000,
  /** Delays up to here are Temporal activity retries; longer ones are parked in the endpoint's mailbox. */
  serverSideRetryMaxMs: 59_999,
} as const
