-- What upstreams may do with an account's requests, in the words of x-luntrex-policy; NULL: the configuration's default.
-- A change of an account is one row, however many keys it has: whoever follows reads the keys of changed accounts.
ALTER TABLE account ADD COLUMN policy text, ADD COLUMN version bigint NOT NULL DEFAULT 0;
CREATE INDEX account_version ON account (version);
COMMENT ON COLUMN account.policy IS 'purpose: what upstreams may do with requests of the account | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN account.version IS 'purpose: change order for incremental reloads | basis: none | retention: account | subject: self';
