-- Applications of a region's zone are configured in the region's own database, though the rest of its configuration is a copy
-- (docs/regions.md, "Residency with a shared configuration").

-- Of the triggers that a database gets with its copy: they fire for what is not applied by replication. The argument is the zone
-- of the region, where it has one: rows of its residents may be changed.
CREATE OR REPLACE FUNCTION refuse_change_of_copy() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  zone    text;
  allowed boolean := false;
BEGIN
  -- A trigger for statements is of a copy that was set up by an earlier version.
  IF TG_LEVEL = 'ROW' AND TG_NARGS > 0 THEN
    zone := TG_ARGV[0];
    CASE TG_TABLE_NAME
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
    RAISE EXCEPTION '% is a copy: configuration is written where CONFIG_DATABASE_URLS says', TG_TABLE_NAME;
  END IF;
  IF TG_OP = 'DELETE' THEN
    RETURN OLD;
  END IF;
  RETURN NEW;
END $$;

-- Of the triggers of the cluster that configuration is written to: what belongs to an application with a zone never comes there,
-- nor do numbers that regions give to secrets of their residents.
CREATE FUNCTION refuse_resident() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  allowed boolean;
BEGIN
  CASE TG_TABLE_NAME
    WHEN 'application' THEN
      allowed := NEW.residency IS NULL;
    WHEN 'endpoint' THEN
      allowed := EXISTS (SELECT FROM application WHERE id = NEW.app_id);
    WHEN 'endpoint_secret' THEN
      allowed := NEW.id > 0;
  END CASE;
  IF NOT allowed THEN
    RAISE EXCEPTION 'applications with a zone are not configured here: % refuses a row', TG_TABLE_NAME;
  END IF;
  RETURN NEW;
END $$;
