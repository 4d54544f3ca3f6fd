-- Tokens of an application issued up to `issued_until` are refused from `effective_at` on.
CREATE TABLE application_tokens_expired (
  org_id       text COLLATE "C" NOT NULL,
  app_id       text COLLATE "C" NOT NULL,
  issued_until timestamptz NOT NULL,
  effective_at timestamptz NOT NULL,
  PRIMARY KEY (org_id, app_id, issued_until)
);

-- Single tokens by their `jti`. An organisation can name its own only, hence the key.
CREATE TABLE token_expired (
  org_id       text COLLATE "C" NOT NULL,
  token_id     text COLLATE "C" NOT NULL,
  effective_at timestamptz NOT NULL,
  PRIMARY KEY (org_id, token_id)
);
