ALTER TABLE endpoint
  -- A CEL expression; null takes every payload.
  ADD COLUMN filter   text,
  ADD COLUMN ordering text NOT NULL DEFAULT 'none' CHECK (ordering IN ('none', 'fifo')),
  ADD COLUMN priority text NOT NULL DEFAULT 'medium' CHECK (priority IN ('high', 'medium', 'low')),
  -- Null: the payload as it is.
  ADD COLUMN format   text CHECK (format IN ('cloudevents-structured', 'cloudevents-binary')),
  -- {"maxEvents", "lingerMs"}; null sends every event in a request of its own.
  ADD COLUMN batching jsonb;

ALTER TABLE message
  -- {"contentType", "attributes"}: what is not JSON, or was published as a CloudEvent; null for all others.
  ADD COLUMN envelope     jsonb,
  -- When the publisher wants it to be delivered; null: at once.
  ADD COLUMN deliver_at   timestamptz,
  -- From then on its own deliveries are not retried, and not begun.
  ADD COLUMN cancelled_at timestamptz;

-- Messages that wait for their time. A row becomes a row of the outbox in the statement that deletes it.
CREATE TABLE scheduled_message (
  message_id text COLLATE "C" PRIMARY KEY,
  app_id     text COLLATE "C" NOT NULL,
  event_type text COLLATE "C" NOT NULL,
  deliver_at timestamptz NOT NULL
);
CREATE INDEX scheduled_message_due ON scheduled_message (deliver_at);
CREATE INDEX scheduled_message_list ON scheduled_message (app_id, message_id);

-- The earliest time that the workflow `schedule` knows of; null while it knows of none, and has to be woken. One row.
CREATE TABLE schedule_timer (wake_at timestamptz);
INSERT INTO schedule_timer DEFAULT VALUES;

-- cancelled: by the publisher; a fan-out that still fails at it leaves it so
ALTER TABLE delivery DROP CONSTRAINT delivery_state_check;
ALTER TABLE delivery ADD CONSTRAINT delivery_state_check CHECK (state IN ('retrying', 'parked', 'dead', 'skipped', 'cancelled'));
CREATE INDEX delivery_waiting ON delivery (app_id, message_id) WHERE state IN ('retrying', 'parked');

-- What a broadcast sends, and how far it is. The row goes when the last application has its message.
CREATE TABLE broadcast (
  task_id      text COLLATE "C" PRIMARY KEY,
  payload      text NOT NULL,
  after_app_id text COLLATE "C" NOT NULL DEFAULT ''
);
