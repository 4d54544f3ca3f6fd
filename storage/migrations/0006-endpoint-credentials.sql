ALTER TABLE endpoint
  -- {"subject", "expiresAt"} of the client certificate, as it is shown.
  ADD COLUMN mtls           jsonb,
  -- AES-256-GCM of {"certificate", "privateKey"}, in PEM.
  ADD COLUMN mtls_cipher    bytea,
  -- PEM; null: the authorities that everybody trusts.
  ADD COLUMN ca_certificate text,
  -- {"tokenUrl", "clientId", "scopes", "audience", "authMethod"}, as it is shown.
  ADD COLUMN oauth2         jsonb,
  -- AES-256-GCM of the client's secret.
  ADD COLUMN oauth2_cipher  bytea,
  -- Whether it is asked, and has to allow, before it is sent to (HTTP 1.1 Web Hooks for Event Delivery, section 4).
  ADD COLUMN handshake      boolean NOT NULL DEFAULT false;
