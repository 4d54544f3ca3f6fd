-- The W3C `traceparent` of what published the message, which all that is done with it continues; null without tracing.
ALTER TABLE message ADD COLUMN traceparent text;
