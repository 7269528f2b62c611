-- Retention of every class, holds, what people ask for, and what the law wants kept when they are gone.
CREATE TABLE retention_run (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    succeeded_at timestamptz
);
INSERT INTO retention_run DEFAULT VALUES;
COMMENT ON TABLE retention_run IS 'purpose: when old data was dropped last, to notice that it is not, and a clock that jumps | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN retention_run.only_row IS 'purpose: keeps the table at one row | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN retention_run.succeeded_at IS 'purpose: end of the last whole run | basis: none | retention: forever | subject: none';

ALTER TABLE account ADD COLUMN idle_notice_at timestamptz;
COMMENT ON COLUMN account.idle_notice_at IS 'purpose: when its owners were told that nobody uses it | basis: contract | retention: account | subject: self';

-- Rows that are gone cannot say so by a version of their own.
ALTER TABLE change_version ADD COLUMN removed_at_version bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN change_version.removed_at_version IS 'purpose: last change that removed keys, so that processes forget them | basis: none | retention: forever | subject: none';

-- Lifting removes the row; the audit log has both.
CREATE TABLE legal_hold (
    hold_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person_id uuid REFERENCES person,
    account_id bigint REFERENCES account,
    case_reference text NOT NULL CHECK (case_reference ~ '^[A-Za-z0-9][A-Za-z0-9 ./-]{0,63}$'),
    placed_at timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nonnulls(person_id, account_id) = 1)
);
CREATE UNIQUE INDEX legal_hold_person ON legal_hold (person_id, case_reference) WHERE person_id IS NOT NULL;
CREATE UNIQUE INDEX legal_hold_account ON legal_hold (account_id, case_reference) WHERE account_id IS NOT NULL;
COMMENT ON TABLE legal_hold IS 'purpose: what may not be deleted for now, because a court or an authority needs it | basis: legal_obligation | retention: forever | subject: person_id';
COMMENT ON COLUMN legal_hold.hold_id IS 'purpose: names the hold | basis: legal_obligation | retention: forever | subject: person_id';
COMMENT ON COLUMN legal_hold.person_id IS 'purpose: whose data it concerns | basis: legal_obligation | retention: forever | subject: person_id';
COMMENT ON COLUMN legal_hold.account_id IS 'purpose: or which account''s | basis: legal_obligation | retention: forever | subject: account_id';
COMMENT ON COLUMN legal_hold.case_reference IS 'purpose: which case; a file number, no name | basis: legal_obligation | retention: forever | subject: person_id';
COMMENT ON COLUMN legal_hold.placed_at IS 'purpose: since when | basis: legal_obligation | retention: forever | subject: person_id';

CREATE TABLE rights_request (
    request_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    reference text NOT NULL UNIQUE CHECK (reference ~ '^[A-Z2-7]{26}$'),
    kind text NOT NULL CHECK (kind IN ('access', 'export', 'correct', 'restrict', 'object', 'erase')),
    state text NOT NULL CHECK (state IN ('unconfirmed', 'open', 'waiting', 'held', 'done', 'refused', 'withdrawn', 'lapsed')),
    channel text NOT NULL CHECK (channel IN ('self', 'operator', 'form')),
    law text NOT NULL CHECK (law IN ('gdpr', 'ccpa', 'lgpd')),
    person_id uuid REFERENCES person ON DELETE SET NULL,
    email text CHECK (email = lower(email) AND email ~ '^[^@\s]{1,64}@[^@\s]{1,255}$'),
    confirm_hash bytea CHECK (octet_length(confirm_hash) = 32),
    received_at timestamptz NOT NULL DEFAULT now(),
    confirmed_at timestamptz,
    extended_at timestamptz,
    act_at timestamptz,
    warned text NOT NULL DEFAULT 'running' CHECK (warned IN ('running', 'half', 'late', 'over')),
    closed_at timestamptz,
    outcome text CHECK (outcome ~ '^[a-z_]{1,40}$'),
    receipt jsonb,
    CHECK ((closed_at IS NULL) = (outcome IS NULL))
);
CREATE INDEX rights_request_person ON rights_request (person_id) WHERE person_id IS NOT NULL;
CREATE INDEX rights_request_open ON rights_request (act_at) WHERE closed_at IS NULL;
COMMENT ON TABLE rights_request IS 'purpose: what people asked for by right, in time or not, and what was done | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.request_id IS 'purpose: link of the letter that asks who it is | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.reference IS 'purpose: lets whoever has it ask how it stands, without signing in | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.kind IS 'purpose: which right | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.state IS 'purpose: what it waits for | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.channel IS 'purpose: by which way it came | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.law IS 'purpose: which clock runs | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.person_id IS 'purpose: whose request, until the person is erased | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.email IS 'purpose: where to ask whether it was them; gone once it is closed | basis: legal_obligation | retention: audit | subject: email';
COMMENT ON COLUMN rights_request.confirm_hash IS 'purpose: recognises the mailed link, from which alone it can be made | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.received_at IS 'purpose: the clock begins | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.confirmed_at IS 'purpose: since when the person is known to have asked | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.extended_at IS 'purpose: when the person was told that it takes longer | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.act_at IS 'purpose: end of the time in which an erasure can be withdrawn | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.warned IS 'purpose: how near the end of its time was told | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.closed_at IS 'purpose: the clock stops | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.outcome IS 'purpose: how it ended | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN rights_request.receipt IS 'purpose: what was erased, and what stays, why and until when: numbers and fixed words | basis: legal_obligation | retention: audit | subject: person_id';

CREATE TABLE export_link (
    export_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    person_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
    token_hash bytea NOT NULL UNIQUE CHECK (octet_length(token_hash) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL DEFAULT now() + interval '24 hours',
    used_at timestamptz
);
CREATE INDEX export_link_person ON export_link (person_id);
COMMENT ON TABLE export_link IS 'purpose: links that give out a person''s data once; the data is not kept a second time | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN export_link.export_id IS 'purpose: names the export in the audit log | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN export_link.person_id IS 'purpose: whose data it gives | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN export_link.token_hash IS 'purpose: recognises the link, from which alone it can be made | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN export_link.created_at IS 'purpose: age of the link | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN export_link.expires_at IS 'purpose: until when it works | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN export_link.used_at IS 'purpose: works once | basis: contract | retention: day | subject: person_id';

-- Records of usage are never changed; what a person says against one stands beside it.
CREATE TABLE usage_annotation (
    annotation_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    person_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
    request_id uuid NOT NULL,
    note text NOT NULL CHECK (length(note) BETWEEN 1 AND 500),
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX usage_annotation_person ON usage_annotation (person_id);
COMMENT ON TABLE usage_annotation IS 'purpose: what a person says is wrong about a record of usage | basis: contract | retention: usage | subject: person_id';
COMMENT ON COLUMN usage_annotation.annotation_id IS 'purpose: names the annotation | basis: contract | retention: usage | subject: person_id';
COMMENT ON COLUMN usage_annotation.person_id IS 'purpose: who says so | basis: contract | retention: usage | subject: person_id';
COMMENT ON COLUMN usage_annotation.request_id IS 'purpose: which record | basis: contract | retention: usage | subject: person_id';
COMMENT ON COLUMN usage_annotation.note IS 'purpose: what is wrong about it, in the person''s words | basis: contract | retention: usage | subject: person_id';
COMMENT ON COLUMN usage_annotation.created_at IS 'purpose: age of the annotation | basis: contract | retention: usage | subject: person_id';

CREATE TABLE tombstone (
    subject_hash bytea PRIMARY KEY CHECK (octet_length(subject_hash) = 32),
    erased_at timestamptz NOT NULL
);
COMMENT ON TABLE tombstone IS 'purpose: what was erased does not come back from a spool or a backup | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN tombstone.subject_hash IS 'purpose: keyed hash of the id of who is gone, which names nobody | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN tombstone.erased_at IS 'purpose: when | basis: legal_obligation | retention: forever | subject: none';

-- Invoices, and nothing else, for as long as the law of their country says; no table outside refers to them, and the role
-- that works with them (store/billing.py) can read nothing outside.
CREATE SCHEMA billing;
CREATE TABLE billing.invoice (
    invoice_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    number text NOT NULL UNIQUE CHECK (number ~ '^[A-Za-z0-9][A-Za-z0-9./-]{0,63}$'),
    account_id bigint NOT NULL,
    recipient text NOT NULL CHECK (length(recipient) BETWEEN 1 AND 500),
    country text NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    amount numeric NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    issued_on date NOT NULL,
    paid_on date,
    keep_until date NOT NULL
);
CREATE INDEX invoice_account ON billing.invoice (account_id);
COMMENT ON TABLE billing.invoice IS 'purpose: invoices, as tax law wants them kept | basis: legal_obligation | retention: invoice | subject: account_id';
COMMENT ON COLUMN billing.invoice.invoice_id IS 'purpose: names the row | basis: legal_obligation | retention: invoice | subject: account_id';
COMMENT ON COLUMN billing.invoice.number IS 'purpose: number of the invoice | basis: legal_obligation | retention: invoice | subject: account_id';
COMMENT ON COLUMN billing.invoice.account_id IS 'purpose: whose invoice; outlives the account | basis: legal_obligation | retention: invoice | subject: account_id';
COMMENT ON COLUMN billing.invoice.recipient IS 'purpose: name and address on the invoice | basis: legal_obligation | retention: invoice | subject: account_id';
COMMENT ON COLUMN billing.invoice.country IS 'purpose: whose law says how long | basis: legal_obligation | retention: invoice | subject: account_id';
COMMENT ON COLUMN billing.invoice.amount IS 'purpose: what was to be paid | basis: legal_obligation | retention: invoice | subject: account_id';
COMMENT ON COLUMN billing.invoice.currency IS 'purpose: in which currency | basis: legal_obligation | retention: invoice | subject: account_id';
COMMENT ON COLUMN billing.invoice.issued_on IS 'purpose: the period begins at the end of its year | basis: legal_obligation | retention: invoice | subject: account_id';
COMMENT ON COLUMN billing.invoice.paid_on IS 'purpose: none: still to be paid | basis: legal_obligation | retention: invoice | subject: account_id';
COMMENT ON COLUMN billing.invoice.keep_until IS 'purpose: last day on which it is kept | basis: legal_obligation | retention: invoice | subject: account_id';
