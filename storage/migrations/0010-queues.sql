-- Whether endpoints of an application have just been changed.
CREATE INDEX endpoint_changed ON endpoint (app_id, updated_at);
