#!/bin/sh
# Makes an empty PGDATA a standby of STANDBY_OF (host or host:port), known to it by STANDBY_NAME. Where STANDBY_OF is empty, or
# PGDATA holds a cluster, nothing is done. The primary keeps what the standby has not received: max_slot_wal_keep_size bounds it.
set -eu
if [ -z "${STANDBY_OF:-}" ] || [ -s "$PGDATA/PG_VERSION" ]; then exit 0; fi
slot=tidings_$(printf %s "$STANDBY_NAME" | tr - _)
host=${STANDBY_OF%:*}
port=${STANDBY_OF##*:}
if [ "$host" = "$port" ]; then port=5432; fi
export PGPASSWORD="$REPLICATION_PASSWORD"
primary="host=$host port=$port user=replicator application_name=$STANDBY_NAME connect_timeout=10"
psql -v ON_ERROR_STOP=1 --quiet --no-align --tuples-only "$primary dbname=postgres" -c "SELECT pg_create_physical_replication_slot('$slot', true)
  WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '$slot')"
# It has its name when it is whole.
rm -rf "$PGDATA.new"
mkdir -p "$(dirname "$PGDATA")"
pg_basebackup -d "$primary" -D "$PGDATA.new" --write-recovery-conf --wal-method stream --checkpoint fast --slot "$slot" --no-password
if [ -d "$PGDATA" ]; then rmdir "$PGDATA"; fi
mv "$PGDATA.new" "$PGDATA"
