-- Labels of keys. An account declares up to five names, with their values or free ones; keys carry them.
CREATE TABLE label_name (
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    name text NOT NULL CHECK (name ~ '^[a-z][a-z0-9_]{0,31}$'),
    allowed text[] CHECK (cardinality(allowed) > 0),
    PRIMARY KEY (account_id, name)
);
COMMENT ON TABLE label_name IS 'purpose: which labels keys of an account can carry | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN label_name.account_id IS 'purpose: whose labels they are | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN label_name.name IS 'purpose: name of the label | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN label_name.allowed IS 'purpose: values it can have; NULL: any word | basis: contract | retention: account | subject: account_id';

-- What a key carries since when, in whole UTC days: usage of a day counts for the label of that day, so that a change
-- leaves what was before as it was. Periods of one key and name never overlap; the one without an end is the present.
CREATE TABLE key_label (
    key_id text NOT NULL REFERENCES api_key ON DELETE CASCADE,
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    name text NOT NULL,
    value text NOT NULL CHECK (value ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    since date NOT NULL,
    until date CHECK (until > since),
    PRIMARY KEY (key_id, name, since)
);
CREATE UNIQUE INDEX key_label_present ON key_label (key_id, name) WHERE until IS NULL;
CREATE INDEX key_label_account ON key_label (account_id, name, value);
COMMENT ON TABLE key_label IS 'purpose: labels of keys, as a dimension of usage and bills | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN key_label.key_id IS 'purpose: which key carries it | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN key_label.account_id IS 'purpose: whose key it is | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN key_label.name IS 'purpose: name of the label | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN key_label.value IS 'purpose: its value | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN key_label.since IS 'purpose: first UTC day whose usage counts for it | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN key_label.until IS 'purpose: first UTC day whose usage does not any more; NULL: it is carried now | basis: contract | retention: account | subject: account_id';
