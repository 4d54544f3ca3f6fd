-- Message data by days (UTC), so that what is old goes as whole tables: docs/adr/0028. Ids begin with their time, so a day of
-- messages, or of attempts, is a range of ids.

-- The smallest id that something made at this time can have: `lowestIdAt` of domain/ids.ts.
CREATE FUNCTION lowest_id_at(prefix text, at timestamptz) RETURNS text LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  digits constant text := '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
  ms     bigint := floor(extract(epoch FROM at) * 1000)::bigint - 1400000000000;
  -- 32 bits of seconds and 8 of units of 4 ms, before 120 bits that are zero.
  rest   numeric := ((ms / 1000) * 256 + (ms % 1000) / 4)::numeric * 1329227995784915872903807060280344576;
  id     text := '';
BEGIN
  FOR i IN 1..27 LOOP
    id := substr(digits, (rest % 62)::integer + 1, 1) || id;
    rest := div(rest, 62);
  END LOOP;
  RETURN prefix || '_' || id;
END $$;

-- No attempt of a message has a smaller id, though clocks differ by eight minutes: the time of the message's id without its last
-- digits. With it a search by message leaves out partitions of earlier days.
CREATE FUNCTION earliest_attempt(message_id text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT 'atmpt_' || regexp_replace(substr(message_id, 5, 4), '.0*$', '')
$$;

ALTER TABLE message RENAME TO message_before;
ALTER INDEX message_pkey RENAME TO message_before_pkey;
ALTER INDEX message_list RENAME TO message_before_list;
CREATE TABLE message (LIKE message_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE INDEX message_list ON message (app_id, id);

-- Payloads that are to be gone before their message is. Their `message.payload` is null.
CREATE TABLE message_payload (
  message_id text COLLATE "C" NOT NULL,
  -- As the message has it.
  expires_at timestamptz NOT NULL,
  payload    text NOT NULL,
  PRIMARY KEY (message_id, expires_at)
) PARTITION BY RANGE (expires_at);

-- The text of a message that may be read at a time: null once it was expunged or has expired.
CREATE FUNCTION payload_at(at timestamptz, id text, expires timestamptz, kept text) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE AS $$
  SELECT CASE WHEN expires <= at THEN NULL WHEN kept IS NOT NULL THEN kept
    ELSE (SELECT p.payload FROM message_payload p WHERE p.message_id = id AND p.expires_at = expires) END
$$;

ALTER TABLE attempt RENAME TO attempt_before;
ALTER INDEX attempt_by_endpoint RENAME TO attempt_before_by_endpoint;
ALTER TABLE attempt_before DROP CONSTRAINT attempt_pkey, ADD CONSTRAINT attempt_before_pkey PRIMARY KEY (message_id, id, status);
-- Each day has those that succeeded apart from those that failed: they are kept for different times.
CREATE TABLE attempt (LIKE attempt_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS, PRIMARY KEY (message_id, id, status)) PARTITION BY RANGE (id);
CREATE INDEX attempt_by_endpoint ON attempt (endpoint_id, id);

-- What belongs to no day that has a table: nothing that is accepted is ever refused because nobody has made tables ahead.
CREATE TABLE message_default PARTITION OF message DEFAULT;
CREATE TABLE message_payload_default PARTITION OF message_payload DEFAULT;
CREATE TABLE attempt_default PARTITION OF attempt DEFAULT;

-- Makes the table of a day, with what is in the default table of it. Does nothing where it is there.
CREATE FUNCTION create_day(parent text, day date) RETURNS boolean LANGUAGE plpgsql SET timezone = 'UTC' AS $$
DECLARE
  name   text := parent || '_' || to_char(day, 'YYYYMMDD');
  key    text := CASE parent WHEN 'message_payload' THEN 'expires_at' ELSE 'id' END;
  low    text := CASE parent WHEN 'message' THEN lowest_id_at('msg', day::timestamptz) WHEN 'attempt' THEN lowest_id_at('atmpt', day::timestamptz)
    ELSE day::timestamptz::text END;
  high   text := CASE parent WHEN 'message' THEN lowest_id_at('msg', (day + 1)::timestamptz)
    WHEN 'attempt' THEN lowest_id_at('atmpt', (day + 1)::timestamptz) ELSE (day + 1)::timestamptz::text END;
BEGIN
  IF to_regclass(name) IS NOT NULL THEN
    RETURN false;
  END IF;
  EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)%s', name, parent, CASE parent WHEN 'attempt' THEN ' PARTITION BY LIST (status)' ELSE '' END);
  IF parent = 'attempt' THEN
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (0)', name || '_delivered', name);
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (1, 2, 3)', name || '_failed', name);
  END IF;
  EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', parent || '_default');
  EXECUTE format('WITH moved AS (DELETE FROM %I WHERE %I >= %L AND %I < %L RETURNING *) INSERT INTO %I SELECT * FROM moved',
    parent || '_default', key, low, key, high, name);
  EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name, low, high);
  RETURN true;
END $$;

-- To find what belongs to messages that are gone.
CREATE INDEX message_event_id_age ON message_event_id USING brin (message_id);

-- What there was before goes when the last of it is old enough: its name has the day before which it ends.
DO $$
DECLARE
  today    date := (now() AT TIME ZONE 'UTC')::date;
  tomorrow timestamptz := (today + 1)::timestamp AT TIME ZONE 'UTC';
  first    date := today;
  suffix   text := '_before_' || to_char(today + 1, 'YYYYMMDD');
BEGIN
  IF EXISTS (SELECT FROM message_before) OR EXISTS (SELECT FROM attempt_before) THEN
    -- Of machines whose clocks are ahead.
    WITH moved AS (DELETE FROM message_before WHERE id >= lowest_id_at('msg', tomorrow) RETURNING *) INSERT INTO message_default SELECT * FROM moved;
    WITH moved AS (DELETE FROM attempt_before WHERE id >= lowest_id_at('atmpt', tomorrow) RETURNING *) INSERT INTO attempt_default SELECT * FROM moved;
    EXECUTE format('ALTER TABLE message_before RENAME TO %I', 'message' || suffix);
    EXECUTE format('ALTER TABLE attempt_before RENAME TO %I', 'attempt' || suffix);
    EXECUTE format('ALTER TABLE message ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)', 'message' || suffix, lowest_id_at('msg', tomorrow));
    EXECUTE format('ALTER TABLE attempt ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)', 'attempt' || suffix, lowest_id_at('atmpt', tomorrow));
    first := today + 1;
  ELSE
    DROP TABLE message_before, attempt_before;
  END IF;
  FOR n IN 0..7 LOOP
    PERFORM create_day('message', first + n);
    PERFORM create_day('attempt', first + n);
  END LOOP;
  FOR n IN 0..97 LOOP
    PERFORM create_day('message_payload', today + n);
  END LOOP;
END $$;
