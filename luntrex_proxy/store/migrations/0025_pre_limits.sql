-- How much an account or a key may ask for in a time. One row says all limits of one of them, so that a change is one
-- row to read; a row without limits stays, and says that there are none any more.
CREATE TABLE usage_limit (
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    key_id text REFERENCES api_key ON DELETE CASCADE,
    limits jsonb NOT NULL CHECK (jsonb_typeof(limits) = 'object'),
    version bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX usage_limit_whose ON usage_limit (account_id, coalesce(key_id, ''));
CREATE UNIQUE INDEX usage_limit_key ON usage_limit (key_id) WHERE key_id IS NOT NULL;
CREATE INDEX usage_limit_version ON usage_limit (version);
COMMENT ON TABLE usage_limit IS 'purpose: how much an account or key may ask for in a time | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN usage_limit.account_id IS 'purpose: whose limits, or whose key | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN usage_limit.key_id IS 'purpose: of which key; NULL: of the whole account | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN usage_limit.limits IS 'purpose: amounts by model and kind | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN usage_limit.version IS 'purpose: change order for incremental reloads | basis: none | retention: account | subject: none';
COMMENT ON COLUMN usage_limit.changed_at IS 'purpose: since when the limits are as they are | basis: contract | retention: account | subject: account_id';
