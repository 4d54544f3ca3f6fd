-- Configuration (application, endpoint, endpoint_secret, event_type) and message data share no foreign key, so that
-- regions can replicate them differently. Ids sort bytewise by time, hence COLLATE "C".

CREATE TABLE application (
  id            text COLLATE "C" PRIMARY KEY,
  org_id        text COLLATE "C" NOT NULL,
  uid           text COLLATE "C",
  name          text NOT NULL,
  throttle_rate integer,
  metadata      jsonb NOT NULL DEFAULT '{}',
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now(),
  deleted_at    timestamptz
);
CREATE UNIQUE INDEX application_uid ON application (org_id, uid) WHERE deleted_at IS NULL;
CREATE INDEX application_list ON application (org_id, id) WHERE deleted_at IS NULL;

CREATE TABLE endpoint (
  id                text COLLATE "C" PRIMARY KEY,
  app_id            text COLLATE "C" NOT NULL,
  uid               text COLLATE "C",
  url               text NOT NULL,
  description       text NOT NULL DEFAULT '',
  version           integer NOT NULL DEFAULT 1,
  disabled          boolean NOT NULL DEFAULT false,
  -- When it was last disabled or enabled: what was published while it was disabled is never delivered.
  disabled_at       timestamptz,
  event_types       text[],
  channels          text[],
  throttle_rate     integer,
  metadata          jsonb NOT NULL DEFAULT '{}',
  -- AES-256-GCM of a JSON object of header names and values; null without custom headers.
  headers_cipher    bytea,
  -- Milliseconds before each retry; null takes the service's schedule.
  retry_schedule_ms integer[],
  timeout_ms        integer,
  created_at        timestamptz NOT NULL DEFAULT now(),
  updated_at        timestamptz NOT NULL DEFAULT now(),
  deleted_at        timestamptz
);
CREATE UNIQUE INDEX endpoint_uid ON endpoint (app_id, uid) WHERE deleted_at IS NULL;
CREATE INDEX endpoint_list ON endpoint (app_id, id);

CREATE TABLE endpoint_secret (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  endpoint_id   text COLLATE "C" NOT NULL REFERENCES endpoint (id) ON DELETE CASCADE,
  -- AES-256-GCM of the secret as written, prefix included (whsec_… or whsk_…).
  secret_cipher bytea NOT NULL,
  created_at    timestamptz NOT NULL DEFAULT now(),
  -- Null for the current secret; a rotated one signs until then.
  expires_at    timestamptz
);
CREATE UNIQUE INDEX endpoint_secret_current ON endpoint_secret (endpoint_id) WHERE expires_at IS NULL;
CREATE INDEX endpoint_secret_by_endpoint ON endpoint_secret (endpoint_id);

CREATE TABLE event_type (
  org_id       text COLLATE "C" NOT NULL,
  name         text COLLATE "C" NOT NULL,
  description  text NOT NULL,
  archived     boolean NOT NULL DEFAULT false,
  deprecated   boolean NOT NULL DEFAULT false,
  feature_flag text,
  group_name   text,
  schemas      jsonb,
  created_at   timestamptz NOT NULL DEFAULT now(),
  updated_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (org_id, name)
);

CREATE TABLE message (
  id         text COLLATE "C" PRIMARY KEY,
  app_id     text COLLATE "C" NOT NULL,
  event_type text COLLATE "C" NOT NULL,
  event_id   text COLLATE "C",
  channels   text[],
  -- The exact text that is sent and signed; null once expunged or expired.
  payload    text,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX message_list ON message (app_id, id);

CREATE TABLE message_event_id (
  app_id     text COLLATE "C" NOT NULL,
  event_id   text COLLATE "C" NOT NULL,
  message_id text COLLATE "C" NOT NULL,
  PRIMARY KEY (app_id, event_id)
);

-- What is accepted and not yet in Temporal's hands. A row leaves with its fan-out's first record.
CREATE TABLE outbox (
  id           text COLLATE "C" PRIMARY KEY,
  message_id   text COLLATE "C" NOT NULL,
  app_id       text COLLATE "C" NOT NULL,
  event_type   text COLLATE "C" NOT NULL,
  -- Null: every subscribed endpoint. Set: this one alone, whatever its filters.
  endpoint_id  text COLLATE "C",
  trigger      smallint NOT NULL DEFAULT 0,
  -- False: a single attempt (resend, recover).
  retried      boolean NOT NULL DEFAULT true,
  -- Fixed before the fan-out is started, and only ever started under this id.
  group_id     text COLLATE "C",
  leased_until timestamptz,
  created_at   timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, fillfactor = 70);
CREATE INDEX outbox_group ON outbox (group_id);

CREATE TABLE attempt (
  message_id      text COLLATE "C" NOT NULL,
  id              text COLLATE "C" NOT NULL,
  endpoint_id     text COLLATE "C" NOT NULL,
  app_id          text COLLATE "C" NOT NULL,
  event_type      text COLLATE "C" NOT NULL,
  url             text NOT NULL,
  status          smallint NOT NULL,
  response_code   integer NOT NULL,
  response_body   text NOT NULL,
  duration_ms     integer NOT NULL,
  trigger         smallint NOT NULL,
  -- The fan-out that made it (workflow fan-out/<group_id>), and its run: a pair answered in a run is not sent again in it.
  group_id        text COLLATE "C" NOT NULL,
  run_id          uuid NOT NULL,
  next_attempt_at timestamptz,
  created_at      timestamptz NOT NULL,
  PRIMARY KEY (message_id, id)
);
CREATE INDEX attempt_by_endpoint ON attempt (endpoint_id, id);

-- Deliveries that wait or are dead. A delivery that succeeded has no row here.
CREATE TABLE delivery (
  message_id  text COLLATE "C" NOT NULL,
  endpoint_id text COLLATE "C" NOT NULL,
  app_id      text COLLATE "C" NOT NULL,
  -- retrying: an activity holds the timer; parked: the endpoint's mailbox does; dead: out of attempts; skipped: by an operator
  state       text NOT NULL CHECK (state IN ('retrying', 'parked', 'dead', 'skipped')),
  -- Requests made.
  attempts    integer NOT NULL,
  trigger     smallint NOT NULL DEFAULT 0,
  next_at     timestamptz,
  group_id    text COLLATE "C" NOT NULL,
  updated_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (message_id, endpoint_id)
);
CREATE INDEX delivery_parked ON delivery (endpoint_id, next_at) WHERE state = 'parked';
CREATE INDEX delivery_dead ON delivery (app_id, message_id) WHERE state = 'dead';

-- Pages that a replay has put into the outbox: a page that is repeated after a crash is not put in twice.
CREATE TABLE replay_page (
  task_id          text COLLATE "C" NOT NULL,
  after_message_id text COLLATE "C" NOT NULL,
  -- Null: the page was empty, the replay has reached its end.
  last_message_id  text COLLATE "C",
  deliveries       integer NOT NULL,
  PRIMARY KEY (task_id, after_message_id)
);

-- One row per endpoint whose mailbox has been needed. The mailbox sets idle in the transaction that finds nothing parked.
CREATE TABLE mailbox (
  endpoint_id text COLLATE "C" PRIMARY KEY,
  idle        boolean NOT NULL,
  -- The earliest due time that the workflow's timer knows of.
  wake_at     timestamptz
);
