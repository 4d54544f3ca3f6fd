-- Worker processes that run: each writes its row again and again, and deletes it when it stops. Not logged: after a crash of
-- Postgres it is empty, and fills again.
CREATE UNLOGGED TABLE worker (
  id                text COLLATE "C" PRIMARY KEY,
  roles             text[] NOT NULL,
  lanes             text[] NOT NULL,
  host              text NOT NULL,
  pid               integer NOT NULL,
  version           text NOT NULL,
  started_at        timestamptz NOT NULL,
  seen_at           timestamptz NOT NULL,
  -- How often it writes its row: who has been silent for three times as long is gone.
  report_ms         integer NOT NULL,
  -- Since the last row: share of the event loop's time, 0 to 1, and requests in flight of the fullest lane, on average, of so many.
  utilisation       float8 NOT NULL,
  slots_used        float8 NOT NULL,
  slots             integer NOT NULL,
  -- Since the last row: requests that ended, those that failed by the endpoint and by us.
  attempts          integer NOT NULL,
  endpoint_failures integer NOT NULL,
  own_failures      integer NOT NULL,
  -- First requests by the time since the publish, in the classes of endpoint_health.
  first_requests    integer[] NOT NULL
) WITH (fillfactor = 50);

-- What the autoscaler saw.
CREATE TABLE scaling_sample (
  pool                 text COLLATE "C" NOT NULL,
  at                   timestamptz NOT NULL,
  -- That run, and that should.
  workers              integer NOT NULL,
  wanted               integer NOT NULL,
  depth                integer NOT NULL,
  rate_limited         integer NOT NULL,
  oldest_s             float8 NOT NULL,
  -- Null: no worker has reported.
  utilisation          float8,
  -- Null: there was no first request.
  first_request_p99_ms float8,
  attempts             integer NOT NULL,
  endpoint_failures    integer NOT NULL,
  own_failures         integer NOT NULL,
  PRIMARY KEY (pool, at)
);

-- What it decided: each change, and each hold that has another reason than the one before.
CREATE TABLE scaling_decision (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  pool         text COLLATE "C" NOT NULL,
  at           timestamptz NOT NULL,
  -- Null: not known, no sample could be taken.
  from_workers integer,
  to_workers   integer,
  action       text NOT NULL CHECK (action IN ('up', 'down', 'hold')),
  rule         text NOT NULL,
  reason       text NOT NULL,
  -- Null: none could be taken.
  sample       jsonb
);
-- An activity that is repeated writes the same decision once.
CREATE UNIQUE INDEX scaling_decision_at ON scaling_decision (pool, at, action, rule);
