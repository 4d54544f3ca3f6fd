-- Requests that named an idempotency key, so that a repeated one is answered as the first was.
CREATE TABLE idempotency_key (
  -- SHA-256 of Authorization, key, path and query, in base64.
  hash        text COLLATE "C" PRIMARY KEY,
  -- Of a publish, whose answer is made of this message; written with the message, so there is no state in between.
  message_id  text COLLATE "C",
  -- Of any other request: who works on it, and, once it is done, its status and AES-256-GCM of its body (secrets are among them).
  claim       uuid,
  status      smallint,
  body_cipher bytea,
  -- Of the claim until the request is done, then of its answer.
  expires_at  timestamptz NOT NULL
);
CREATE INDEX idempotency_key_expiry ON idempotency_key (expires_at);
