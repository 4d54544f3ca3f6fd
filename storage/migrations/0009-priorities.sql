ALTER TABLE message
  ADD COLUMN priority text NOT NULL DEFAULT 'medium' CHECK (priority IN ('high', 'medium', 'low'));
ALTER TABLE outbox
  ADD COLUMN priority text COLLATE "C" NOT NULL DEFAULT 'medium';
-- Each application's rows of each priority, the oldest first: whoever claims looks at every such line, not at all of its rows.
CREATE INDEX outbox_waiting ON outbox (app_id, priority, created_at) WHERE group_id IS NULL;

-- Numbers of partitions that processes give work to, and when one last said so: the task queues of each may hold work.
CREATE TABLE partition_number (
  partitions integer PRIMARY KEY,
  used_at    timestamptz NOT NULL
);
