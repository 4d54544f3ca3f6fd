-- Whether endpoints of an application have just been changed.
CREATE INDEX endpoint_changed ON endpoint (app_id, updated_at);

-- The batch that is being sent to an endpoint, written down before its request: who takes over sends the same events under the
-- same id. Once a batch has failed its id is in the rows of its deliveries.
CREATE TABLE batch_in_flight (
  endpoint_id text COLLATE "C" PRIMARY KEY,
  batch_id    text COLLATE "C" NOT NULL,
  -- Of its deliveries: numbers are short, and those of a delivery that is sent again are others.
  seqs        bigint[] NOT NULL
) WITH (fillfactor = 50);
