ALTER TABLE endpoint DROP CONSTRAINT endpoint_ordering_check;
ALTER TABLE endpoint ADD CONSTRAINT endpoint_ordering_check CHECK (ordering IN ('none', 'fifo', 'fifo-by-key'));

-- What is kept in order at an endpoint with `fifo-by-key`; null: nothing.
ALTER TABLE message ADD COLUMN ordering_key text;

-- The order in which an ordered or batched endpoint gets what it gets: if one publish was answered before another was sent,
-- its number is lower.
CREATE SEQUENCE delivery_seq;
ALTER TABLE delivery
  -- Null: not in a queue.
  ADD COLUMN seq          bigint,
  ADD COLUMN ordering_key text,
  -- The request that it is sent in, together with all that have the same; fixed before it is sent.
  ADD COLUMN batch_id     text COLLATE "C";
CREATE INDEX delivery_queue ON delivery (endpoint_id, seq) WHERE state = 'parked' AND seq IS NOT NULL;
CREATE INDEX delivery_batch ON delivery (endpoint_id, batch_id) WHERE state = 'parked' AND batch_id IS NOT NULL;

ALTER TABLE mailbox
  -- Who drains a queue counts it up, and goes on only as long as nobody else has.
  ADD COLUMN epoch    bigint NOT NULL DEFAULT 0,
  -- The last epoch whose drain has said that it sends nothing more.
  ADD COLUMN released bigint NOT NULL DEFAULT 0;
