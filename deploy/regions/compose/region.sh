#!/bin/sh
# `docker compose` for one place: ./region.sh us-east up -d
set -eu
cd "$(dirname "$0")"
place=$1
shift
if [ "$place" = one ]; then common=one.env; else common=four.env; fi
exec docker compose --env-file secrets.env --env-file "$common" --env-file "$place.env" "$@"
