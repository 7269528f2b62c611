-- The audit chain: acts of administration, on personal data, and reads of others' data. Rows are only ever added.
CREATE TABLE audit_entry (
    sequence bigint PRIMARY KEY,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    act text NOT NULL CHECK (act ~ '^[a-z_]+\.[a-z_]+$'),
    object_id text NOT NULL,
    account_id bigint,
    facts jsonb NOT NULL,
    commitments jsonb NOT NULL,
    hash bytea NOT NULL CHECK (octet_length(hash) = 32)
);
CREATE INDEX audit_entry_account ON audit_entry (account_id, sequence);
COMMENT ON TABLE audit_entry IS 'purpose: who did what to accounts, keys, secrets and personal data | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN audit_entry.sequence IS 'purpose: order without gaps | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN audit_entry.at IS 'purpose: when it was done | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN audit_entry.actor IS 'purpose: by which way and by which id it was done | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN audit_entry.act IS 'purpose: what was done | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN audit_entry.object_id IS 'purpose: to what it was done, an id | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN audit_entry.account_id IS 'purpose: whose matter it was | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN audit_entry.facts IS 'purpose: ids, numbers and fixed words about it | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN audit_entry.commitments IS 'purpose: salted hashes of personal words, meaningless once those are erased | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN audit_entry.hash IS 'purpose: chains the entry to the one before | basis: none | retention: audit | subject: none';

CREATE TABLE audit_personal (
    sequence bigint NOT NULL,
    field text NOT NULL,
    salt bytea NOT NULL CHECK (octet_length(salt) = 16),
    word text NOT NULL,
    PRIMARY KEY (sequence, field)
);
COMMENT ON TABLE audit_personal IS 'purpose: the personal words of audit entries, erasable without breaking the chain | basis: legal_obligation | retention: audit | subject: self';
COMMENT ON COLUMN audit_personal.sequence IS 'purpose: which entry | basis: legal_obligation | retention: audit | subject: self';
COMMENT ON COLUMN audit_personal.field IS 'purpose: which word of it | basis: legal_obligation | retention: audit | subject: self';
COMMENT ON COLUMN audit_personal.salt IS 'purpose: keeps the commitment from being guessed | basis: legal_obligation | retention: audit | subject: self';
COMMENT ON COLUMN audit_personal.word IS 'purpose: for people who read the log | basis: legal_obligation | retention: audit | subject: self';

CREATE TABLE audit_head (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    sequence bigint NOT NULL DEFAULT 0,
    hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    kept_sequence bigint NOT NULL DEFAULT 0,
    kept_hash bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex')
);
INSERT INTO audit_head DEFAULT VALUES;
COMMENT ON TABLE audit_head IS 'purpose: where the audit chain ends, and where what retention left of it begins | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN audit_head.only_row IS 'purpose: keeps the table at one row | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN audit_head.sequence IS 'purpose: last entry | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN audit_head.hash IS 'purpose: its hash | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN audit_head.kept_sequence IS 'purpose: last entry that retention dropped | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN audit_head.kept_hash IS 'purpose: its hash | basis: none | retention: forever | subject: none';

CREATE FUNCTION audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'the audit log only grows' USING ERRCODE = 'insufficient_privilege'; END $$;
CREATE TRIGGER audit_entry_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_entry
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();
