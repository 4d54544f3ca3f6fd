-- Regions that share their configuration: it is written at one place, and its tables are copied into each region's database by
-- logical replication (docs/regions.md, "Configuration"). Where it is not shared these tables stay empty, and the triggers,
-- which fire for what replication applies alone, never fire.

-- What a change of configuration leads to in message data, for each region to do. A row is deleted by the transaction that
-- writes it: it is there to be replicated.
CREATE TABLE config_effect (
  id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- The region that made the change.
  region text NOT NULL,
  effect jsonb NOT NULL
);

-- The same in a region, in the order in which the changes were applied, until it is done: by the transaction that deletes the row.
CREATE TABLE config_effect_due (
  id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  region text NOT NULL,
  effect jsonb NOT NULL
);

-- Renewed all the time where configuration is written: a copy of it tells how old the copies of the other tables are. One row.
CREATE TABLE config_clock (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  at  timestamptz NOT NULL
);

-- Endpoints that this region wants to be disabled, until that is written.
CREATE TABLE endpoint_disabling (
  endpoint_id      text COLLATE "C" PRIMARY KEY,
  app_id           text COLLATE "C" NOT NULL,
  failing_since_ms float8,
  -- In whole milliseconds, as programs read it.
  wanted_at        timestamptz NOT NULL DEFAULT date_trunc('milliseconds', now())
);

-- Apply workers have no search path of their own, hence the functions'. Every function is of row triggers, because statement
-- triggers do not fire for what is applied; Postgres sends equal notifications of a transaction once.

CREATE FUNCTION tell_copied_application() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM pg_catalog.pg_notify('tidings_config', coalesce(NEW.id, OLD.id));
  IF coalesce(NEW.org_id, OLD.org_id) = 'org_00000000000SvixManagement00' THEN
    PERFORM pg_catalog.pg_notify('tidings_operational', '');
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION tell_copied_endpoint() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  changed text := coalesce(NEW.app_id, OLD.app_id);
BEGIN
  PERFORM pg_catalog.pg_notify('tidings_config', changed);
  IF EXISTS (SELECT FROM application WHERE id = changed AND org_id = 'org_00000000000SvixManagement00') THEN
    PERFORM pg_catalog.pg_notify('tidings_operational', '');
  END IF;
  RETURN NULL;
END $$;

CREATE FUNCTION tell_copied_secret() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM pg_catalog.pg_notify('tidings_config', app_id) FROM endpoint WHERE id = coalesce(NEW.endpoint_id, OLD.endpoint_id);
  RETURN NULL;
END $$;

CREATE FUNCTION tell_copied_tokens() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM pg_catalog.pg_notify('tidings_tokens', '');
  RETURN NULL;
END $$;

CREATE FUNCTION tell_copied_clock() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM pg_catalog.pg_notify('tidings_config_clock', floor(extract(epoch FROM NEW.at) * 1000)::bigint::text);
  RETURN NULL;
END $$;

CREATE FUNCTION queue_copied_effect() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  INSERT INTO config_effect_due (region, effect) VALUES (NEW.region, NEW.effect);
  PERFORM pg_catalog.pg_notify('tidings_config_effect', '');
  RETURN NULL;
END $$;

CREATE TRIGGER tell_copied AFTER INSERT OR UPDATE OR DELETE ON application FOR EACH ROW EXECUTE FUNCTION tell_copied_application();
CREATE TRIGGER tell_copied AFTER INSERT OR UPDATE OR DELETE ON endpoint FOR EACH ROW EXECUTE FUNCTION tell_copied_endpoint();
CREATE TRIGGER tell_copied AFTER INSERT OR UPDATE OR DELETE ON endpoint_secret FOR EACH ROW EXECUTE FUNCTION tell_copied_secret();
CREATE TRIGGER tell_copied AFTER INSERT OR UPDATE OR DELETE ON token_expired FOR EACH ROW EXECUTE FUNCTION tell_copied_tokens();
CREATE TRIGGER tell_copied AFTER INSERT OR UPDATE OR DELETE ON application_tokens_expired
  FOR EACH ROW EXECUTE FUNCTION tell_copied_tokens();
CREATE TRIGGER tell_copied AFTER INSERT OR UPDATE ON config_clock FOR EACH ROW EXECUTE FUNCTION tell_copied_clock();
CREATE TRIGGER queue_copied AFTER INSERT ON config_effect FOR EACH ROW EXECUTE FUNCTION queue_copied_effect();

ALTER TABLE application ENABLE REPLICA TRIGGER tell_copied;
ALTER TABLE endpoint ENABLE REPLICA TRIGGER tell_copied;
ALTER TABLE endpoint_secret ENABLE REPLICA TRIGGER tell_copied;
ALTER TABLE token_expired ENABLE REPLICA TRIGGER tell_copied;
ALTER TABLE application_tokens_expired ENABLE REPLICA TRIGGER tell_copied;
ALTER TABLE config_clock ENABLE REPLICA TRIGGER tell_copied;
ALTER TABLE config_effect ENABLE REPLICA TRIGGER queue_copied;

-- Of the triggers that a database gets with its copy: they fire for what is not applied by replication.
CREATE FUNCTION refuse_change_of_copy() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is a copy: configuration is written where CONFIG_DATABASE_URLS says', TG_TABLE_NAME;
END $$;
