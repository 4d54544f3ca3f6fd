-- The zone of residency, a name of the regions file: set when the application is created and never changed. Null: none.
ALTER TABLE application ADD COLUMN residency text COLLATE "C";

-- The region that delivers to it, a name of the regions file. Null: the one that accepted the message.
ALTER TABLE endpoint ADD COLUMN region text COLLATE "C";

-- What every region knows of the applications with a zone, and all that those outside of the zone know: see docs/adr/0024.
CREATE TABLE application_zone (
  -- The application's id.
  id       text COLLATE "C" PRIMARY KEY,
  org_id   text COLLATE "C" NOT NULL,
  -- HMAC of the uid, which may name a customer; null without one, and once the application is deleted.
  uid_hash bytea,
  zone     text COLLATE "C" NOT NULL,
  -- Grows with each change: what is heard late does not replace what is newer.
  version  bigint NOT NULL
);
CREATE INDEX application_zone_uid ON application_zone (org_id, uid_hash) WHERE uid_hash IS NOT NULL;

-- In the application's zone: the regions that have not heard of a row of `application_zone`. Without a configuration
-- cluster, which copies the rows by itself.
CREATE TABLE application_zone_untold (
  app_id  text COLLATE "C" NOT NULL,
  region  text COLLATE "C" NOT NULL,
  -- Counts the changes: a region that has heard of an older one is told again.
  version bigint NOT NULL DEFAULT 0,
  -- When it is told next.
  next_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (app_id, region)
);
CREATE INDEX application_zone_untold_next ON application_zone_untold (next_at);

-- Regions that are told of changes of `application_zone`: one that is new is told of everything first.
CREATE TABLE application_zone_listener (
  region text COLLATE "C" PRIMARY KEY
);
