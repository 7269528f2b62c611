-- People and what they are in accounts. A key may belong to a member; one without is the account's (a service key).
CREATE TABLE person (
    person_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    email text NOT NULL CHECK (email = lower(email) AND email ~ '^[^@\s]{1,64}@[^@\s]{1,255}$'),
    name text NOT NULL DEFAULT '' CHECK (length(name) <= 200),
    password_hash text CHECK (password_hash LIKE '$2b$%'),
    password_pepper_fingerprint bytea,
    operator boolean NOT NULL DEFAULT false,
    status text NOT NULL DEFAULT 'active' CHECK (status IN ('unverified', 'active', 'suspended', 'restricted')),
    email_verified_at timestamptz,
    affirmed_16_at timestamptz NOT NULL,
    objected_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz,
    CHECK ((password_hash IS NULL) = (password_pepper_fingerprint IS NULL))
);
CREATE UNIQUE INDEX person_email ON person (email);
COMMENT ON TABLE person IS 'purpose: who signs in | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN person.person_id IS 'purpose: link of memberships, sessions and keys | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN person.email IS 'purpose: name at sign-in, and where notices go | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN person.name IS 'purpose: what the person is called, if said | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN person.password_hash IS 'purpose: checks the password | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN person.password_pepper_fingerprint IS 'purpose: which pepper is in the password hash | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN person.operator IS 'purpose: whether the person runs this installation | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN person.status IS 'purpose: whether the person may sign in, and whether processing is restricted | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN person.email_verified_at IS 'purpose: since when the address is known to be the person''s | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN person.affirmed_16_at IS 'purpose: when the person affirmed to be 16 or older | basis: legal_obligation | retention: account | subject: self';
COMMENT ON COLUMN person.objected_at IS 'purpose: since when the person objects to analytics | basis: legal_obligation | retention: account | subject: self';
COMMENT ON COLUMN person.created_at IS 'purpose: age of the entry; unverified ones are dropped | basis: contract | retention: account | subject: self';
COMMENT ON COLUMN person.last_seen_at IS 'purpose: finds what nobody uses any more, to the day | basis: contract | retention: account | subject: self';

CREATE TABLE membership (
    person_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    role text NOT NULL CHECK (role IN ('owner', 'admin', 'developer', 'billing', 'viewer', 'privacy')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (person_id, account_id)
);
CREATE INDEX membership_account ON membership (account_id);
COMMENT ON TABLE membership IS 'purpose: what a person may do in an account | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN membership.person_id IS 'purpose: who | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN membership.account_id IS 'purpose: in which account | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN membership.role IS 'purpose: what the person may do there | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN membership.created_at IS 'purpose: since when | basis: contract | retention: account | subject: person_id';

ALTER TABLE api_key ADD COLUMN person_id uuid REFERENCES person ON DELETE SET NULL;
CREATE INDEX api_key_person ON api_key (person_id) WHERE person_id IS NOT NULL;
COMMENT ON COLUMN api_key.person_id IS 'purpose: the member whose key it is; none: the account''s own | basis: contract | retention: account | subject: person_id';
