-- What an admin did to a member's key, the member does not undo.
ALTER TABLE api_key ADD COLUMN suspended_by_admin boolean NOT NULL DEFAULT false,
    ADD COLUMN limited_by_admin text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN api_key.suspended_by_admin IS 'purpose: whether the member whose key it is may not resume it | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.limited_by_admin IS 'purpose: kinds of limits that the member whose key it is may not change | basis: contract | retention: account | subject: account_id';
