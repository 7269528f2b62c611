-- What an account has of its own in routing. A row without anything stays, and says that there is nothing any more.
CREATE TABLE account_route (
    account_id bigint PRIMARY KEY REFERENCES account ON DELETE CASCADE,
    models text[],
    targets jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(targets) = 'object'),
    version bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX account_route_version ON account_route (version);
COMMENT ON TABLE account_route IS 'purpose: which models an account may use, and its own targets for some of them | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN account_route.account_id IS 'purpose: whose | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN account_route.models IS 'purpose: models that the account may use; NULL: all | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN account_route.targets IS 'purpose: upstreams, names there and weights by model | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN account_route.version IS 'purpose: change order for processes that follow | basis: none | retention: account | subject: none';
COMMENT ON COLUMN account_route.changed_at IS 'purpose: since when it is so | basis: contract | retention: account | subject: account_id';
