-- Idempotency keys and the audit log by days (UTC) too: docs/adr/0033.

-- The time by which keys are taken and expire. A test that lives through days gives its database another.
CREATE FUNCTION key_time() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT now()';

-- Makes the table of a day, with what is in the default table of it. Does nothing where it is there, or where the audit log of a
-- copy is not partitioned yet. The setting lets rows of a copy be moved: `refuse_change_of_copy`.
CREATE OR REPLACE FUNCTION create_day(parent text, day date) RETURNS boolean LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
  name   text := parent || '_' || to_char(day, 'YYYYMMDD');
  ids    text := CASE parent WHEN 'message' THEN 'msg' WHEN 'attempt' THEN 'atmpt' WHEN 'audit_log' THEN 'audit' END;
  key    text := CASE parent WHEN 'message_payload' THEN 'expires_at' WHEN 'idempotency_key' THEN 'day' ELSE 'id' END;
  low    text := CASE WHEN ids IS NULL THEN day::timestamptz::text ELSE lowest_id_at(ids, day::timestamptz) END;
  high   text := CASE WHEN ids IS NULL THEN (day + 1)::timestamptz::text ELSE lowest_id_at(ids, (day + 1)::timestamptz) END;
  moved  jsonb;
BEGIN
  IF to_regclass(name) IS NOT NULL OR (SELECT relkind FROM pg_class WHERE oid = to_regclass(parent)) <> 'p' THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)%s', name, parent, CASE parent WHEN 'attempt' THEN ' PARTITION BY LIST (status)' ELSE '' END);
  IF parent = 'attempt' THEN
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (0)', name || '_delivered', name);
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (1, 2, 3)', name || '_failed', name);
  END IF;
  EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', parent || '_default');
  IF parent = 'audit_log' THEN
    -- Where it is published its copies delete what is taken out: they are to have it again from what is put in.
    PERFORM set_config('tidings.moving_days', 'on', true);
    EXECUTE format('WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING *) SELECT jsonb_agg(to_jsonb(moved)) FROM moved',
      parent || '_default', key, low, key, high) INTO moved;
  ELSE
    EXECUTE format('WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING *) INSERT INTO %I SELECT * FROM moved',
      parent || '_default', key, low, key, high, name);
  END IF;
  EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, low, high);
  IF moved IS NOT NULL THEN
    INSERT INTO audit_log SELECT * FROM jsonb_populate_recordset(NULL::audit_log, moved);
  END IF;
  PERFORM set_config('tidings.moving_days', '', true);
  RETURN true;
END $$;

-- Rows of the audit log that belong to no day and are older than what is kept, some at a time. @returns their ids
CREATE FUNCTION remove_old_audit(first_kept text, most integer) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
  IF to_regclass('audit_log_default') IS NOT NULL THEN
    PERFORM set_config('tidings.moving_days', 'on', true);
    RETURN QUERY DELETE FROM audit_log_default
      WHERE ctid = ANY (ARRAY(SELECT ctid FROM audit_log_default WHERE id < first_kept ORDER BY id LIMIT most)) RETURNING id;
    PERFORM set_config('tidings.moving_days', '', true);
  END IF;
END $$;

-- As it was (0017), of a partition what it is of its parent; and what moves rows between days changes nothing.
CREATE OR REPLACE FUNCTION refuse_change_of_copy() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  zone    text;
  subject text := CASE WHEN TG_TABLE_NAME LIKE 'audit\_log\_%' THEN 'audit_log' ELSE TG_TABLE_NAME END;
  allowed boolean := subject = 'audit_log' AND current_setting('tidings.moving_days', true) = 'on';
BEGIN
  -- A trigger for statements is of a copy that was set up by an earlier version.
  IF allowed IS NOT TRUE AND TG_LEVEL = 'ROW' AND TG_NARGS > 0 THEN
    zone := TG_ARGV[0];
    CASE subject
      WHEN 'application' THEN
        allowed := (TG_OP = 'INSERT' OR OLD.residency = zone) AND (TG_OP = 'DELETE' OR NEW.residency = zone);
      WHEN 'endpoint', 'audit_log', 'application_tokens_expired' THEN
        allowed := (TG_OP <> 'UPDATE' OR NEW.app_id = OLD.app_id)
          AND EXISTS (SELECT FROM application WHERE id = coalesce(NEW.app_id, OLD.app_id) AND residency = zone);
      WHEN 'endpoint_secret' THEN
        allowed := coalesce(NEW.id, OLD.id) < 0 AND (TG_OP <> 'UPDATE' OR NEW.endpoint_id = OLD.endpoint_id) AND (
          EXISTS (SELECT FROM endpoint e JOIN application a ON a.id = e.app_id
                  WHERE e.id = coalesce(NEW.endpoint_id, OLD.endpoint_id) AND a.residency = zone)
          -- It goes with its endpoint.
          OR (TG_OP = 'DELETE' AND NOT EXISTS (SELECT FROM endpoint WHERE id = OLD.endpoint_id)));
      ELSE
        allowed := false;
    END CASE;
  END IF;
  IF allowed IS NOT TRUE THEN
    RAISE EXCEPTION '% is a copy: configuration is written where CONFIG_DATABASE_URLS says', subject;
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  RETURN NEW;
END $$;

-- Partitions the audit log, with what is in it as one table (or none). Where it is published it stays so without a gap, under its
-- name, whatever its partitions are. A subscription goes by the table, not its name: of a copy storage/config-audit-log.ts calls it.
-- @returns false where it is partitioned already
CREATE FUNCTION partition_audit_log() RETURNS boolean LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
  today     date := current_date;
  first     date := today;
  before    text := 'audit_log_before_' || to_char(today + 1, 'YYYYMMDD');
  tomorrow  text := lowest_id_at('audit', (today + 1)::timestamptz);
  published boolean;
BEGIN
  LOCK TABLE audit_log IN ACCESS EXCLUSIVE MODE;
  IF (SELECT relkind FROM pg_class WHERE oid = 'audit_log'::regclass) = 'p' THEN
    RETURN false;
  END IF;
  published := EXISTS (SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
    WHERE p.pubname = 'tidings_configuration' AND r.prrelid = 'audit_log'::regclass);
  IF published THEN
    ALTER PUBLICATION tidings_configuration DROP TABLE audit_log;
  END IF;
  -- Its parent gets one: `protectCopy`.
  DROP TRIGGER IF EXISTS refuse_change_of_copy ON audit_log;
  ALTER TABLE audit_log RENAME TO audit_log_before;
  ALTER INDEX audit_log_pkey RENAME TO audit_log_before_pkey;
  ALTER INDEX audit_log_list RENAME TO audit_log_before_list;
  ALTER INDEX audit_log_by_application RENAME TO audit_log_before_by_application;
  CREATE TABLE audit_log (LIKE audit_log_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (id)) PARTITION BY RANGE (id);
  CREATE INDEX audit_log_list ON audit_log (org_id, id);
  CREATE INDEX audit_log_by_application ON audit_log (app_id, id) WHERE app_id IS NOT NULL;
  CREATE TABLE audit_log_default PARTITION OF audit_log DEFAULT;
  -- Of machines whose clocks are ahead.
  WITH moved AS (DELETE FROM audit_log_before WHERE id >= tomorrow RETURNING *) INSERT INTO audit_log_default SELECT * FROM moved;
  IF EXISTS (SELECT FROM audit_log_before) THEN
    EXECUTE format('ALTER TABLE audit_log_before RENAME TO %I', before);
    EXECUTE format('ALTER TABLE audit_log ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)', before, tomorrow);
    first := today + 1;
  ELSE
    DROP TABLE audit_log_before;
  END IF;
  FOR n IN 0..7 LOOP
    PERFORM create_day('audit_log', first + n);
  END LOOP;
  IF published THEN
    ALTER PUBLICATION tidings_configuration SET (publish_via_partition_root = true);
    ALTER PUBLICATION tidings_configuration ADD TABLE audit_log;
  END IF;
  RETURN true;
END $$;

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_subscription WHERE subname = 'tidings_configuration'
    AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())) THEN
    PERFORM partition_audit_log();
  END IF;
END $$;

-- Last, since keys are waited for. Those that are there become the table of a day on which they are looked for until the last of
-- them has expired, 12 hours from now: today's, in its first hour yesterday's.
ALTER TABLE idempotency_key RENAME TO idempotency_key_before;
DROP INDEX idempotency_key_expiry;
DO $$
DECLARE
  of_keys date := ((now() - interval '1 hour') AT TIME ZONE 'UTC')::date;
  name    text := 'idempotency_key_' || to_char(of_keys, 'YYYYMMDD');
BEGIN
  -- A constant default writes no row anew.
  EXECUTE format('ALTER TABLE idempotency_key_before ADD COLUMN day date NOT NULL DEFAULT %L', of_keys);
  ALTER TABLE idempotency_key_before ALTER COLUMN day DROP DEFAULT;
  EXECUTE format('ALTER TABLE idempotency_key_before DROP CONSTRAINT idempotency_key_pkey, ADD CONSTRAINT %I PRIMARY KEY (hash, day)', name || '_pkey');
  -- `day`: on which a key was taken. Unique over two days, too, by how keys are taken: storage/idempotency.ts.
  CREATE TABLE idempotency_key (LIKE idempotency_key_before INCLUDING CONSTRAINTS, PRIMARY KEY (hash, day)) PARTITION BY RANGE (day);
  CREATE TABLE idempotency_key_default PARTITION OF idempotency_key DEFAULT;
  EXECUTE format('ALTER TABLE idempotency_key_before RENAME TO %I', name);
  EXECUTE format('ALTER TABLE idempotency_key ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, of_keys, of_keys + 1);
  FOR n IN 0..7 LOOP
    PERFORM create_day('idempotency_key', (now() AT TIME ZONE 'UTC')::date + n);
  END LOOP;
END $$;
