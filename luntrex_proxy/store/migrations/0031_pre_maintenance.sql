-- What was unusual on a request's way, in the words of core/trail.py; nearly all have nothing.
ALTER TABLE usage ADD COLUMN trail text NOT NULL DEFAULT '';
COMMENT ON COLUMN usage.trail IS 'purpose: which upstreams were not asked or refused, and why; what was waited for | basis: contract | retention: usage | subject: account_id';

-- Upstreams that get nothing new for a while. A row is there as long as that lasts.
CREATE TABLE upstream_maintenance (
    upstream text PRIMARY KEY CHECK (upstream ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$'),
    reason text NOT NULL DEFAULT '' CHECK (length(reason) <= 200),
    since timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE upstream_maintenance IS 'purpose: upstreams that the operator lets nothing new go to | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN upstream_maintenance.upstream IS 'purpose: its name in the configuration | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN upstream_maintenance.reason IS 'purpose: why, in the operator''s words | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN upstream_maintenance.since IS 'purpose: since when | basis: none | retention: forever | subject: none';
