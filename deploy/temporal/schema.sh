#!/bin/sh
# Creates or updates both databases of the Temporal server. Running it again changes nothing.
set -eu
for name in temporal temporal_visibility; do
  part=${name#temporal_}
  sql() { temporal-sql-tool --plugin postgres12 --ep temporal-postgres -p 5432 -u temporal --db "$name" "$@"; }
  sql create
  sql setup-schema -v 0.0 || echo "$name: the schema is there"
  sql update-schema -d "/etc/temporal/schema/postgresql/v12/$part/versioned"
done
