-- Tables of days are moved to another tablespace while they are read and written: docs/adr/0032. A table is copied in steps; what
-- changes in it meanwhile is noted, and done in the copy too; then the copy takes the table's place. Each step is a transaction.

-- Moves under way. `<day_table>_copy` is what is filled, `<day_table>_moved` the table that was there before.
CREATE TABLE day_move (
  day_table    text PRIMARY KEY,
  tablespace   text NOT NULL,
  -- Pages of the table when changes began to be noted, and how many of them are copied.
  pages        bigint NOT NULL DEFAULT 0,
  copied_pages bigint NOT NULL DEFAULT 0,
  -- The last transaction that wrote into the copy: a snapshot that is older does not see all of it.
  written_by   xid8 NOT NULL DEFAULT pg_current_xact_id(),
  -- The copy is vacuumed, analysed, and has as many rows as the table.
  checked      boolean NOT NULL DEFAULT false,
  swapped      boolean NOT NULL DEFAULT false,
  began_at     timestamptz NOT NULL DEFAULT now()
);

-- Rows that have changed in a table that is being moved. Of messages `message_id` is null.
CREATE TABLE day_change (
  day_table  text NOT NULL,
  message_id text COLLATE "C",
  id         text COLLATE "C" NOT NULL
);

-- Keys never change: of an update the old one is the new one.
CREATE FUNCTION note_day_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_ARGV[0] = 'message' THEN
    INSERT INTO day_change (day_table, id) VALUES (TG_TABLE_NAME, CASE TG_OP WHEN 'DELETE' THEN OLD.id ELSE NEW.id END);
  ELSIF TG_OP = 'DELETE' THEN
    INSERT INTO day_change (day_table, message_id, id) VALUES (TG_TABLE_NAME, OLD.message_id, OLD.id);
  ELSE
    INSERT INTO day_change (day_table, message_id, id) VALUES (TG_TABLE_NAME, NEW.message_id, NEW.id);
  END IF;
  RETURN NULL;
END $$;

-- Makes the copy, empty, and has changes noted from the end of the transaction on. Who writes to the table waits for that end.
CREATE FUNCTION begin_day_move(of_table text, to_tablespace text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  copy  text := of_table || '_copy';
  index regclass;
BEGIN
  INSERT INTO day_move (day_table, tablespace) VALUES (of_table, to_tablespace) ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) WITH (autovacuum_enabled = off, toast.autovacuum_enabled = off) TABLESPACE %I',
    copy, of_table, to_tablespace);
  FOR index IN SELECT indexrelid FROM pg_index WHERE indrelid = copy::regclass LOOP
    EXECUTE format('ALTER INDEX %s SET TABLESPACE %I', index, to_tablespace);
  END LOOP;
  -- With it the copy becomes a partition without being read.
  EXECUTE format('ALTER TABLE %I ADD CONSTRAINT day_move_bound CHECK (%s)', copy, pg_get_partition_constraintdef(of_table::regclass));
  EXECUTE format('CREATE TRIGGER day_move AFTER INSERT OR UPDATE OR DELETE ON %I FOR EACH ROW EXECUTE FUNCTION note_day_change(%L)',
    of_table, split_part(of_table, '_', 1));
  UPDATE day_move SET pages = pg_relation_size(of_table::regclass) / current_setting('block_size')::bigint WHERE day_table = of_table;
END $$;

-- Copies the next pages. A row that is there already has changed, and been copied for that, or will be.
CREATE FUNCTION copy_day_pages(of_table text, count bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  move day_move;
  upto bigint;
BEGIN
  SELECT * INTO move FROM day_move WHERE day_table = of_table AND NOT swapped FOR UPDATE;
  IF NOT FOUND OR move.copied_pages >= move.pages THEN
    RETURN;
  END IF;
  upto := least(move.pages, move.copied_pages + count);
  EXECUTE format('INSERT INTO %I SELECT * FROM ONLY %I WHERE ctid >= %L::tid AND ctid < %L::tid ON CONFLICT DO NOTHING',
    of_table || '_copy', of_table, format('(%s,0)', move.copied_pages), format('(%s,0)', upto));
  UPDATE day_move SET copied_pages = upto, written_by = pg_current_xact_id() WHERE day_table = of_table;
END $$;

-- Does in the copy what has changed, some rows at a time. Returns how many changes there were. Who changed a row has committed when
-- its change is found, so that the statement after it sees the row as it is then, or as it is later, with another change to be found.
CREATE FUNCTION catch_up_day(of_table text, changes_max integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  message_ids text[];
  ids         text[];
  of_these    text := 'r.id = ANY($2)';
BEGIN
  PERFORM FROM day_move WHERE day_table = of_table AND NOT swapped FOR UPDATE;
  IF NOT FOUND THEN
    RETURN 0;
  END IF;
  WITH noted AS (
    DELETE FROM day_change WHERE ctid = ANY(ARRAY(SELECT ctid FROM day_change WHERE day_table = of_table LIMIT changes_max))
    RETURNING day_change.message_id, day_change.id
  ) SELECT array_agg(noted.message_id), array_agg(noted.id) INTO message_ids, ids FROM noted;
  IF ids IS NULL THEN
    RETURN 0;
  END IF;
  IF message_ids[1] IS NOT NULL THEN
    of_these := '(r.message_id, r.id) IN (SELECT * FROM unnest($1, $2))';
  END IF;
  EXECUTE format('DELETE FROM %I r WHERE %s', of_table || '_copy', of_these) USING message_ids, ids;
  EXECUTE format('INSERT INTO %I SELECT * FROM ONLY %I r WHERE %s', of_table || '_copy', of_table, of_these) USING message_ids, ids;
  UPDATE day_move SET written_by = pg_current_xact_id() WHERE day_table = of_table;
  RETURN cardinality(ids);
END $$;

-- Puts the copy in the table's place, unless something has changed that the copy does not have. Everybody waits for it who uses the
-- parent: of messages all of them, of attempts the day. The caller bounds that by lock_timeout and statement_timeout.
-- Returns 'swapped', 'changed', 'gone' (no such move, or no such partition), or 'crowded': the parent's default table, which is read
-- for rows of the day that it must not have, is larger than it may be.
CREATE FUNCTION swap_day(of_table text, default_max_bytes bigint) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  move      day_move;
  parent_id regclass;
  bound     text;
  moved     text := of_table || '_moved';
BEGIN
  SELECT * INTO move FROM day_move WHERE day_table = of_table FOR UPDATE;
  IF move.swapped THEN
    RETURN 'swapped';
  END IF;
  SELECT i.inhparent, pg_get_expr(c.relpartbound, c.oid) INTO parent_id, bound
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.oid = to_regclass(of_table);
  IF move IS NULL OR parent_id IS NULL THEN
    RETURN 'gone';
  END IF;
  IF EXISTS (SELECT FROM pg_partitioned_table
    WHERE partrelid = parent_id AND partdefid <> 0 AND pg_relation_size(partdefid) > default_max_bytes) THEN
    RETURN 'crowded';
  END IF;
  EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', parent_id);
  EXECUTE format('LOCK TABLE ONLY %I IN ACCESS EXCLUSIVE MODE', of_table);
  IF EXISTS (SELECT FROM day_change WHERE day_table = of_table) THEN
    RETURN 'changed';
  END IF;
  EXECUTE format('ALTER TABLE %s DETACH PARTITION %I', parent_id, of_table);
  EXECUTE format('ALTER TABLE %I RENAME TO %I', of_table, moved);
  EXECUTE format('ALTER TABLE %I RENAME TO %I', of_table || '_copy', of_table);
  EXECUTE format('ALTER TABLE %s ATTACH PARTITION %I %s', parent_id, of_table, bound);
  EXECUTE format('ALTER TABLE %I DROP CONSTRAINT day_move_bound, RESET (autovacuum_enabled, toast.autovacuum_enabled)', of_table);
  UPDATE day_move SET swapped = true WHERE day_table = of_table;
  RETURN 'swapped';
END $$;

-- Removes what a move leaves, of one that is not to go on the copy. Nothing where there is none.
CREATE FUNCTION end_day_move(of_table text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  move day_move;
BEGIN
  SELECT * INTO move FROM day_move WHERE day_table = of_table FOR UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  IF move.swapped THEN
    EXECUTE format('DROP TABLE IF EXISTS %I', of_table || '_moved');
  ELSE
    EXECUTE format('DROP TABLE IF EXISTS %I', of_table || '_copy');
  END IF;
  DELETE FROM day_move WHERE day_table = of_table;
  -- Last, since who uses the table waits from here to the end of the transaction.
  IF NOT move.swapped AND to_regclass(of_table) IS NOT NULL THEN
    EXECUTE format('DROP TRIGGER IF EXISTS day_move ON %I', of_table);
  END IF;
  DELETE FROM day_change WHERE day_table = of_table;
END $$;
