-- Debug capture: which key, for whom, until when; and what was captured, encrypted to a key that is not here.
CREATE TABLE debug_capture (
    capture_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    key_id text NOT NULL REFERENCES api_key ON DELETE CASCADE,
    person_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
    public_key bytea NOT NULL CHECK (octet_length(public_key) = 32),
    requests_left integer NOT NULL CHECK (requests_left BETWEEN 0 AND 100),
    seconds_left integer NOT NULL CHECK (seconds_left BETWEEN 0 AND 3600),
    started_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL CHECK (expires_at <= started_at + interval '1 hour'),
    ended_at timestamptz
);
CREATE INDEX debug_capture_account ON debug_capture (account_id);
CREATE UNIQUE INDEX debug_capture_key ON debug_capture (key_id) WHERE ended_at IS NULL;
COMMENT ON TABLE debug_capture IS 'purpose: debugging that a key''s owner asked for | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture.capture_id IS 'purpose: names it | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture.account_id IS 'purpose: shows it to the account | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture.key_id IS 'purpose: whose requests | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture.person_id IS 'purpose: who alone gets what was captured | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture.public_key IS 'purpose: encrypts so that only its owner reads | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture.requests_left IS 'purpose: bounds it | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture.seconds_left IS 'purpose: bounds it whatever clocks do | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture.started_at IS 'purpose: shows since when | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture.expires_at IS 'purpose: ends it | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture.ended_at IS 'purpose: since when it is over | basis: contract | retention: day | subject: person_id';

CREATE TABLE debug_capture_record (
    record_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    capture_id uuid NOT NULL REFERENCES debug_capture ON DELETE CASCADE,
    person_id uuid NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    sealed bytea NOT NULL
);
CREATE INDEX debug_capture_record_capture ON debug_capture_record (capture_id, record_id);
CREATE INDEX debug_capture_record_at ON debug_capture_record (at);
COMMENT ON TABLE debug_capture_record IS 'purpose: captured requests, unreadable without their owner''s private key | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture_record.record_id IS 'purpose: their order | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture_record.capture_id IS 'purpose: of which capture | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture_record.person_id IS 'purpose: whose it is | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture_record.at IS 'purpose: age; gone after 24 hours | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN debug_capture_record.sealed IS 'purpose: request and answer, encrypted to the owner | basis: contract | retention: day | subject: person_id';
