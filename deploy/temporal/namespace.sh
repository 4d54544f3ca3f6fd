#!/bin/sh
# Creates the namespace and its search attributes (domain/names.ts). Running it again changes nothing.
set -eu
until temporal operator cluster health >/dev/null 2>&1; do sleep 1; done
temporal operator namespace describe -n "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 ||
  temporal operator namespace create -n "$TEMPORAL_NAMESPACE" --retention 168h
for name in MessageIds ApplicationIds EventTypes; do
  temporal operator search-attribute list -n "$TEMPORAL_NAMESPACE" | grep -q "$name" ||
    temporal operator search-attribute create -n "$TEMPORAL_NAMESPACE" --name "$name" --type KeywordList
done
