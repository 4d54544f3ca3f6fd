-- Work that outlives its request: the workflow carries it, this row says how it stands.
CREATE TABLE background_task (
  id         text COLLATE "C" PRIMARY KEY,
  org_id     text COLLATE "C" NOT NULL,
  -- Null: of the whole organisation.
  app_id     text COLLATE "C",
  task       text NOT NULL,
  status     text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'finished', 'failed', 'cancelled')),
  -- What its workflow is started with; never shown.
  input      jsonb NOT NULL,
  -- Whether its workflow is known to have been started; a sweep starts the others.
  started    boolean NOT NULL DEFAULT false,
  -- Progress, as it is shown.
  data       jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX background_task_list ON background_task (org_id, id);
CREATE INDEX background_task_unstarted ON background_task (created_at) WHERE NOT started AND status = 'running';

-- Who changed what of the configuration. Names of fields, never their values.
CREATE TABLE audit_log (
  id         text COLLATE "C" PRIMARY KEY,
  org_id     text COLLATE "C" NOT NULL,
  -- Null: a change of the organisation's own (event types, tokens).
  app_id     text COLLATE "C",
  -- The token's subject and, where it has one, its id (jti).
  actor      text NOT NULL,
  token_id   text,
  operation  text NOT NULL,
  object_id  text NOT NULL,
  fields     text[] NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_log_list ON audit_log (org_id, id);
CREATE INDEX audit_log_by_application ON audit_log (app_id, id) WHERE app_id IS NOT NULL;

-- Messages that were erased: a fan-out that finds them absent does not wait for their rows.
CREATE TABLE erased_message (
  id        text COLLATE "C" PRIMARY KEY,
  erased_at timestamptz NOT NULL DEFAULT now()
);
