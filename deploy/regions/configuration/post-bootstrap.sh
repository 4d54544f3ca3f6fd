#!/bin/sh
# Patroni calls it once, at the first leader, with the address of its database: the role and the database of CONFIG_DATABASE_URLS.
set -eu
psql -v ON_ERROR_STOP=1 -v password="$CONFIG_DATABASE_PASSWORD" "$1" <<'SQL'
CREATE ROLE tidings LOGIN REPLICATION PASSWORD :'password';
GRANT pg_monitor TO tidings;
-- Postgres warns of the slot `tidings_quorum` while a commit waits for a quorum.
ALTER ROLE tidings SET log_min_messages = error;
CREATE DATABASE tidings OWNER tidings;
SQL
