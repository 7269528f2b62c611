-- What a key is limited to, and two peppers at a time: a key may have a lookup hash for each, or none yet.
ALTER TABLE api_key
    ADD COLUMN endpoints text[] CHECK (cardinality(endpoints) > 0),
    ADD COLUMN models text[] CHECK (cardinality(models) > 0),
    ADD COLUMN regions text[] CHECK (cardinality(regions) > 0),
    ADD COLUMN networks cidr[] CHECK (cardinality(networks) > 0),
    ADD COLUMN old_lookup_hash bytea CHECK (octet_length(old_lookup_hash) = 32),
    ADD COLUMN old_pepper_fingerprint bytea,
    ALTER COLUMN lookup_hash DROP NOT NULL,
    ALTER COLUMN pepper_fingerprint DROP NOT NULL,
    ADD CHECK ((lookup_hash IS NULL) = (pepper_fingerprint IS NULL)),
    ADD CHECK ((old_lookup_hash IS NULL) = (old_pepper_fingerprint IS NULL));
COMMENT ON COLUMN api_key.endpoints IS 'purpose: endpoints the key is limited to | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.models IS 'purpose: models the key is limited to | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.regions IS 'purpose: regions the key is limited to | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.networks IS 'purpose: client networks the key is limited to, chosen by its owner | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.old_lookup_hash IS 'purpose: lookup hash for processes that have the pepper before the present one only | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN api_key.old_pepper_fingerprint IS 'purpose: which pepper made the old lookup hash | basis: none | retention: account | subject: none';

ALTER TABLE installation ADD COLUMN old_pepper_fingerprint bytea;
COMMENT ON COLUMN installation.old_pepper_fingerprint IS 'purpose: the pepper before this one, while a rotation is under way | basis: none | retention: forever | subject: none';
