-- What upstreams may do with an account's requests, in the words of x-luntrex-policy; NULL: the configuration's default.
ALTER TABLE account ADD COLUMN policy text;
COMMENT ON COLUMN account.policy IS 'purpose: what upstreams may do with requests of the account | basis: contract | retention: account | subject: self';
