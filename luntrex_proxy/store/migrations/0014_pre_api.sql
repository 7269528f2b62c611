-- Personal access tokens of the JSON API, and what was made under an Idempotency-Key.
CREATE TABLE access_token (
    token_id text PRIMARY KEY CHECK (token_id ~ '^[0-9A-Za-z]{12}$'),
    person_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
    name text NOT NULL CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
    token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    scopes text[] NOT NULL CHECK (cardinality(scopes) > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    last_used_on date,
    revoked_at timestamptz,
    CHECK (expires_at > created_at AND expires_at <= created_at + interval '365 days')
);
CREATE INDEX access_token_person ON access_token (person_id, token_id);
COMMENT ON TABLE access_token IS 'purpose: lets a person''s programs use the API | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN access_token.token_id IS 'purpose: public part of the token, its name in lists and the audit log | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN access_token.person_id IS 'purpose: whose token it is | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN access_token.name IS 'purpose: name the person gave the token | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN access_token.token_hash IS 'purpose: tells the token, 256 random bits, without keeping it | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN access_token.scopes IS 'purpose: permissions the token is limited to | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN access_token.created_at IS 'purpose: age of the token | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN access_token.expires_at IS 'purpose: end of validity | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN access_token.last_used_on IS 'purpose: finds unused tokens, to the day | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN access_token.revoked_at IS 'purpose: when the token was revoked | basis: contract | retention: account | subject: person_id';

CREATE TABLE made_once (
    person_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
    key_hash bytea NOT NULL CHECK (octet_length(key_hash) = 32),
    request_hash bytea NOT NULL CHECK (octet_length(request_hash) = 32),
    object_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (person_id, key_hash)
);
CREATE INDEX made_once_created_at ON made_once (created_at);
COMMENT ON TABLE made_once IS 'purpose: a creation that is sent twice makes one thing | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN made_once.person_id IS 'purpose: whose Idempotency-Key it was | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN made_once.key_hash IS 'purpose: hash of the Idempotency-Key | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN made_once.request_hash IS 'purpose: hash of the request, to tell a repetition from another request | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN made_once.object_id IS 'purpose: id of what was made | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN made_once.created_at IS 'purpose: rows of yesterday are dropped | basis: contract | retention: day | subject: person_id';
