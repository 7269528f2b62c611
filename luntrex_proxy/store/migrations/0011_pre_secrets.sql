-- Secrets that have to be known in plain text to be used, such as providers' keys: sealed with data keys, which are wrapped
-- by a key outside the database.
CREATE TABLE data_key (
    data_key_id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    wrapped bytea NOT NULL,
    wrapped_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE data_key IS 'purpose: keys that seal secrets, themselves wrapped | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN data_key.data_key_id IS 'purpose: named in what it sealed | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN data_key.wrapped IS 'purpose: the key, encrypted by the wrapping key | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN data_key.wrapped_by IS 'purpose: which wrapping key unwraps it | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN data_key.created_at IS 'purpose: the newest one seals | basis: none | retention: forever | subject: none';

CREATE TABLE secret (
    name text PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    sealed bytea NOT NULL,
    set_at timestamptz NOT NULL DEFAULT now(),
    version bigint NOT NULL
);
COMMENT ON TABLE secret IS 'purpose: secrets of the operator, such as providers'' keys | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN secret.name IS 'purpose: named in the configuration | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN secret.sealed IS 'purpose: the secret, encrypted by a data key | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN secret.set_at IS 'purpose: age of the secret | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN secret.version IS 'purpose: change order for incremental reloads | basis: none | retention: forever | subject: none';
