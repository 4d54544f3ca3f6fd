-- What was counted of an endpoint before says nothing of it any more: its breaker was closed, or its URL is another.
ALTER TABLE endpoint_state ADD COLUMN counts_from timestamptz;
