-- What is unusual about an endpoint: most have no row. Every process has all rows in memory, and hears of each change.
CREATE TABLE endpoint_state (
  endpoint_id text COLLATE "C" PRIMARY KEY,
  app_id      text COLLATE "C" NOT NULL,
  -- closed: another column says what is unusual.
  breaker     text NOT NULL DEFAULT 'closed' CHECK (breaker IN ('closed', 'open', 'half-open', 'recovering')),
  -- When the breaker came into this state.
  since       timestamptz NOT NULL DEFAULT now(),
  -- Open: when it is probed.
  until       timestamptz,
  -- Half-open: requests that were answered well.
  probes      integer NOT NULL DEFAULT 0,
  -- Recovering or slowed: requests a second at `ramp_from`, from which on they rise.
  ramp_rate   float8,
  ramp_from   timestamptz,
  -- Answers so slowly that its owner was told.
  slow_since  timestamptz
);

-- What processes have counted of an endpoint's answers, in slots of ten seconds: a ring, slot = epoch mod 30. Not logged: after
-- a crash of Postgres the window is empty, and fills again.
CREATE UNLOGGED TABLE endpoint_health (
  endpoint_id  text COLLATE "C" NOT NULL,
  slot         smallint NOT NULL,
  -- Unix time in tens of seconds.
  epoch        bigint NOT NULL,
  successes    integer NOT NULL,
  failures     integer NOT NULL,
  -- Of the failures: 429.
  rate_limited integer NOT NULL,
  -- Of the failures: 429, 502, 503 and 504.
  overloaded   integer NOT NULL,
  -- Begun in this slot and not ended.
  in_flight    integer NOT NULL,
  -- Answers by response time, in milliseconds.
  within_5     integer NOT NULL,
  within_10    integer NOT NULL,
  within_25    integer NOT NULL,
  within_50    integer NOT NULL,
  within_100   integer NOT NULL,
  within_250   integer NOT NULL,
  within_500   integer NOT NULL,
  within_1000  integer NOT NULL,
  within_2500  integer NOT NULL,
  within_5000  integer NOT NULL,
  within_10000 integer NOT NULL,
  within_30000 integer NOT NULL,
  over_30000   integer NOT NULL,
  PRIMARY KEY (endpoint_id, slot)
) WITH (fillfactor = 70);

-- Endpoints whose last request failed.
CREATE TABLE endpoint_failing (
  endpoint_id          text COLLATE "C" PRIMARY KEY,
  app_id               text COLLATE "C" NOT NULL,
  consecutive_failures integer NOT NULL,
  -- The first of them.
  since                timestamptz NOT NULL,
  -- When its owner was told that it is going to be disabled.
  told_at              timestamptz
);
CREATE INDEX endpoint_failing_since ON endpoint_failing (since);

-- Rates that all workers share. A bucket that is not there is full.
CREATE UNLOGGED TABLE token_bucket (
  key     text COLLATE "C" PRIMARY KEY,
  tokens  float8 NOT NULL,
  at      timestamptz NOT NULL,
  -- What the last statement was given, for its own RETURNING.
  granted integer NOT NULL
) WITH (fillfactor = 50);

ALTER TABLE endpoint
  -- False: however much fails, nothing is held back.
  ADD COLUMN circuit_breaker boolean NOT NULL DEFAULT true;

ALTER TABLE delivery
  -- False: a single attempt that waits.
  ADD COLUMN retried boolean NOT NULL DEFAULT true;
-- Of those that wait for the same time the oldest message goes first.
DROP INDEX delivery_parked;
CREATE INDEX delivery_parked ON delivery (endpoint_id, next_at, message_id) WHERE state = 'parked';
