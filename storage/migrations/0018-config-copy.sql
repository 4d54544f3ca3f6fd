-- Where configuration is shared: the timeline of this database when its copy was last known to lack nothing. A database that was
-- promoted has another, and may lack what its primary had taken from the cluster last. One row, or none.
CREATE TABLE config_copy (
  one      boolean PRIMARY KEY DEFAULT true CHECK (one),
  timeline text NOT NULL
);
