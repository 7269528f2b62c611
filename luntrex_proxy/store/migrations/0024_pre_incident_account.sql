-- Which accounts an incident reached, when their people were told: those who answer for an account see it there.
CREATE TABLE incident_account (
    incident_id bigint NOT NULL REFERENCES incident ON DELETE CASCADE,
    account_id bigint REFERENCES account ON DELETE SET NULL,
    told_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX incident_account_pair ON incident_account (incident_id, account_id);
CREATE INDEX incident_account_account ON incident_account (account_id);
COMMENT ON TABLE incident_account IS 'purpose: which accounts an incident reached, for those who answer for one | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN incident_account.incident_id IS 'purpose: which incident | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN incident_account.account_id IS 'purpose: which account, until it is erased | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN incident_account.told_at IS 'purpose: since when its people are told | basis: legal_obligation | retention: audit | subject: account_id';
