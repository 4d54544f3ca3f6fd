-- The region that a message was published in, which has handed it to this one; null: this one.
ALTER TABLE message ADD COLUMN accepted_in text COLLATE "C";

-- Deliveries that a fan-out has found to be another region's, written down before anything is sent: whoever executes it again
-- routes them as before.
CREATE TABLE handed_over (
  group_id     text COLLATE "C" NOT NULL,
  region       text COLLATE "C" NOT NULL,
  message_id   text COLLATE "C" NOT NULL,
  endpoint_ids text[] NOT NULL,
  -- Of the group: as in the outbox, and whether its endpoint was named by whoever had the message sent to it.
  trigger      smallint NOT NULL,
  retried      boolean NOT NULL,
  chosen       boolean NOT NULL,
  -- waiting: the region has not taken it yet; handed: it has; here: it does not, so the deliveries are attempted here
  state        text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'handed', 'here')),
  created_at   timestamptz NOT NULL DEFAULT now(),
  -- Of a state other than waiting.
  settled_at   timestamptz,
  PRIMARY KEY (group_id, region, message_id)
);
CREATE INDEX handed_over_message ON handed_over (message_id);
CREATE INDEX handed_over_waiting ON handed_over (region, created_at) WHERE state = 'waiting';

-- What other regions have handed to this one: a call that is repeated finds its messages here, and starts nothing.
CREATE TABLE handed_in (
  message_id   text COLLATE "C" NOT NULL,
  -- The sender's.
  group_id     text COLLATE "C" NOT NULL,
  -- Where the sender has routed it.
  endpoint_ids text[] NOT NULL,
  -- Whether they were named by whoever had it sent to them: each has a row of the outbox then.
  chosen       boolean NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (message_id, group_id)
);
