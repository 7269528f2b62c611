-- Refused keys by minute, counted exactly; what was alerted about; and messages to a webhook on their way.
CREATE TABLE attempt (
    at timestamptz NOT NULL,
    key_id text NOT NULL,
    network text NOT NULL,
    code text NOT NULL,
    process uuid NOT NULL,
    count bigint NOT NULL CHECK (count > 0),
    account_id bigint REFERENCES account ON DELETE CASCADE,
    PRIMARY KEY (at, key_id, network, code, process)
);
CREATE INDEX attempt_account ON attempt (account_id, at) WHERE account_id IS NOT NULL;
COMMENT ON TABLE attempt IS 'purpose: recognises attacks on keys | basis: legitimate_interest | retention: security | subject: account_id';
COMMENT ON COLUMN attempt.at IS 'purpose: when, to the minute | basis: legitimate_interest | retention: security | subject: account_id';
COMMENT ON COLUMN attempt.key_id IS 'purpose: which key of ours was named; empty: none | basis: legitimate_interest | retention: security | subject: account_id';
COMMENT ON COLUMN attempt.network IS 'purpose: where from: a /24 or /48, no address | basis: legitimate_interest | retention: security | subject: account_id';
COMMENT ON COLUMN attempt.code IS 'purpose: why it was refused | basis: legitimate_interest | retention: security | subject: account_id';
COMMENT ON COLUMN attempt.process IS 'purpose: keeps a count that is written twice from counting twice | basis: none | retention: security | subject: none';
COMMENT ON COLUMN attempt.count IS 'purpose: how often | basis: legitimate_interest | retention: security | subject: account_id';
COMMENT ON COLUMN attempt.account_id IS 'purpose: whose key it was | basis: legitimate_interest | retention: security | subject: account_id';

CREATE TABLE alert (
    kind text NOT NULL CHECK (kind IN ('key', 'network')),
    subject text NOT NULL,
    account_id bigint REFERENCES account ON DELETE CASCADE,
    last_at timestamptz NOT NULL,
    count bigint NOT NULL,
    PRIMARY KEY (kind, subject)
);
COMMENT ON TABLE alert IS 'purpose: what was alerted about, so that nobody is told twice an hour | basis: legitimate_interest | retention: security | subject: account_id';
COMMENT ON COLUMN alert.kind IS 'purpose: whether it was about a key or a network | basis: legitimate_interest | retention: security | subject: account_id';
COMMENT ON COLUMN alert.subject IS 'purpose: which key id, or which network | basis: legitimate_interest | retention: security | subject: account_id';
COMMENT ON COLUMN alert.account_id IS 'purpose: whose key it is | basis: legitimate_interest | retention: security | subject: account_id';
COMMENT ON COLUMN alert.last_at IS 'purpose: when it was told last | basis: legitimate_interest | retention: security | subject: account_id';
COMMENT ON COLUMN alert.count IS 'purpose: how many attempts there were then | basis: legitimate_interest | retention: security | subject: account_id';

CREATE TABLE webhook_message (
    message_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    body text NOT NULL,
    queued_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL DEFAULT now(),
    tries integer NOT NULL DEFAULT 0,
    last_error text,
    ended_at timestamptz,
    outcome text CHECK (outcome IN ('delivered', 'given_up'))
);
CREATE INDEX webhook_message_due ON webhook_message (due_at) WHERE ended_at IS NULL;
COMMENT ON TABLE webhook_message IS 'purpose: messages to the operator''s own webhook | basis: legitimate_interest | retention: mail | subject: none';
COMMENT ON COLUMN webhook_message.message_id IS 'purpose: lets the receiver know a repeated message | basis: none | retention: mail | subject: none';
COMMENT ON COLUMN webhook_message.body IS 'purpose: what is said: ids, networks and counts | basis: legitimate_interest | retention: mail | subject: none';
COMMENT ON COLUMN webhook_message.queued_at IS 'purpose: age; given up after a day | basis: none | retention: mail | subject: none';
COMMENT ON COLUMN webhook_message.due_at IS 'purpose: when to try next | basis: none | retention: mail | subject: none';
COMMENT ON COLUMN webhook_message.tries IS 'purpose: how long to wait between tries | basis: none | retention: mail | subject: none';
COMMENT ON COLUMN webhook_message.last_error IS 'purpose: a word about the last failure | basis: none | retention: mail | subject: none';
COMMENT ON COLUMN webhook_message.ended_at IS 'purpose: since when nothing is to be done | basis: none | retention: mail | subject: none';
COMMENT ON COLUMN webhook_message.outcome IS 'purpose: how it ended | basis: none | retention: mail | subject: none';
