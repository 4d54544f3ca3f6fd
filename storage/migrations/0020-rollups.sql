-- What was attempted, by the minute, hour and day (UTC), of each endpoint and of each application. Written by one dispatcher at a
-- time from ranges of attempt ids (ADR 30). Partitions are made ahead by who writes; a row is the whole of its time, never a part.
CREATE TABLE rollup_minute (
  -- An endpoint or an application.
  of_id        text COLLATE "C" NOT NULL,
  at           timestamptz NOT NULL,
  attempts     integer NOT NULL,
  -- Attempts that delivered, and those after which nothing follows though they did not.
  delivered    integer NOT NULL,
  failed       integer NOT NULL,
  dead_letters integer NOT NULL DEFAULT 0,
  -- Of all attempts together, and attempts by how long they took, in the classes of LATENCY_BOUNDS_MS.
  duration_ms  bigint NOT NULL,
  durations    integer[] NOT NULL,
  PRIMARY KEY (of_id, at)
) PARTITION BY RANGE (at);
-- Those of one time, for what is told of all endpoints: rows come in the order of their times.
CREATE INDEX rollup_minute_at ON rollup_minute USING brin (at);

CREATE TABLE rollup_hour (LIKE rollup_minute INCLUDING ALL) PARTITION BY RANGE (at);

CREATE TABLE rollup_day (
  of_id        text COLLATE "C" NOT NULL,
  at           timestamptz NOT NULL,
  attempts     bigint NOT NULL,
  delivered    bigint NOT NULL,
  failed       bigint NOT NULL,
  dead_letters bigint NOT NULL DEFAULT 0,
  duration_ms  bigint NOT NULL,
  durations    bigint[] NOT NULL,
  PRIMARY KEY (of_id, at)
) PARTITION BY RANGE (at);
CREATE INDEX rollup_day_at ON rollup_day USING brin (at);

-- Its lock is the turn. What is older than `begins` was never rolled up, what is from `through` on is not yet.
CREATE TABLE rollup_progress (
  one       boolean PRIMARY KEY DEFAULT true CHECK (one),
  begins    timestamptz NOT NULL,
  through   timestamptz NOT NULL,
  turned_at timestamptz,
  turn_ms   integer
);
-- What was attempted in the last days is rolled up too; of nothing there is nothing to do.
INSERT INTO rollup_progress (begins, through)
SELECT begins, begins FROM (
  SELECT date_trunc('day', now(), 'UTC') - CASE WHEN EXISTS (SELECT FROM attempt) THEN interval '6 days' ELSE interval '0' END AS begins
) day;

-- Minutes that are rolled up again, since attempts of them were recorded long after they were made. Never updated: who records
-- does not wait for who rolls up.
CREATE TABLE rollup_late (
  minute    timestamptz NOT NULL,
  marked_at timestamptz NOT NULL DEFAULT now()
);

-- Attempts lie on disk about in the order of their ids. Such an index costs an insert next to nothing, and finds the pages of some minutes.
CREATE INDEX attempt_by_time ON attempt USING brin (id) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX delivery_died ON delivery (updated_at) WHERE state = 'dead';
