-- Which of DATABASE_SHARD_URLS this database is, and whose messages it takes, as processes have been told. One row, or none where
-- message data is in this database alone: docs/adr/0034.
CREATE TABLE shard (
  one     boolean PRIMARY KEY DEFAULT true CHECK (one),
  number  smallint NOT NULL,
  -- The first instants of the first day that it takes, and of the first that it takes no more.
  begins  timestamptz NOT NULL,
  ends    timestamptz NOT NULL
);
