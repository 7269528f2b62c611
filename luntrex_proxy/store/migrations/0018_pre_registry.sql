-- Who else gets data (sub-processors), what owners agreed to, incidents and who was told, reports about children.
CREATE TABLE subprocessor (
    name text NOT NULL CHECK (name ~ '^[a-z0-9][a-z0-9._-]{0,62}$'),
    entry_version integer NOT NULL CHECK (entry_version > 0),
    hosts text[] NOT NULL CHECK (cardinality(hosts) > 0),
    purpose text NOT NULL DEFAULT '',
    region text NOT NULL DEFAULT '',
    kept text NOT NULL DEFAULT '',
    training text NOT NULL DEFAULT '',
    agreement text NOT NULL DEFAULT '',
    agreed_on date,
    commitments text NOT NULL DEFAULT '',
    evidence text NOT NULL DEFAULT '',
    next_review date,
    retired boolean NOT NULL DEFAULT false,
    announced_at timestamptz NOT NULL DEFAULT now(),
    effective_at timestamptz NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (name, entry_version)
);
CREATE INDEX subprocessor_version ON subprocessor (version);
COMMENT ON TABLE subprocessor IS 'purpose: who else gets data of accounts, every version of every entry | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.name IS 'purpose: names the entry | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.entry_version IS 'purpose: which version of the entry | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.hosts IS 'purpose: the host names it is reached at | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.purpose IS 'purpose: what it does for us | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.region IS 'purpose: where it processes data | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.kept IS 'purpose: what it keeps and for how long | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.training IS 'purpose: whether it trains on what it is sent | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.agreement IS 'purpose: reference of the data processing agreement | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.agreed_on IS 'purpose: date of the agreement | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.commitments IS 'purpose: what it is bound to: confidentiality, security | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.evidence IS 'purpose: where that can be read | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.next_review IS 'purpose: until when the entry counts | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.retired IS 'purpose: whether it gets nothing any more | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.announced_at IS 'purpose: when accounts were told | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.effective_at IS 'purpose: from when the version holds | basis: legal_obligation | retention: forever | subject: none';
COMMENT ON COLUMN subprocessor.version IS 'purpose: change order for processes that follow | basis: legal_obligation | retention: forever | subject: none';

CREATE TABLE subprocessor_objection (
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    name text NOT NULL,
    objected_at timestamptz NOT NULL DEFAULT now(),
    person_id uuid REFERENCES person ON DELETE SET NULL,
    PRIMARY KEY (account_id, name)
);
COMMENT ON TABLE subprocessor_objection IS 'purpose: accounts that do not want a sub-processor to get their data | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN subprocessor_objection.account_id IS 'purpose: whose objection | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN subprocessor_objection.name IS 'purpose: which sub-processor | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN subprocessor_objection.objected_at IS 'purpose: since when | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN subprocessor_objection.person_id IS 'purpose: who said so | basis: contract | retention: account | subject: person_id';

CREATE TABLE consent (
    consent_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL,
    purpose text NOT NULL CHECK (purpose IN ('training', 'benchmarking', 'provider_retention', 'debug_capture', 'product_mail')),
    text_version integer NOT NULL,
    given_at timestamptz NOT NULL DEFAULT now(),
    given_by text NOT NULL,
    withdrawn_at timestamptz,
    withdrawn_by text,
    CHECK ((withdrawn_at IS NULL) = (withdrawn_by IS NULL))
);
CREATE UNIQUE INDEX consent_in_force ON consent (account_id, purpose) WHERE withdrawn_at IS NULL;
COMMENT ON TABLE consent IS 'purpose: proof of what an account''s owner agreed to, and when no more | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN consent.consent_id IS 'purpose: order of the history | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN consent.account_id IS 'purpose: whose consent | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN consent.purpose IS 'purpose: what for | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN consent.text_version IS 'purpose: the text that was agreed to | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN consent.given_at IS 'purpose: since when | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN consent.given_by IS 'purpose: the way it was given and the id of who gave it, no name | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN consent.withdrawn_at IS 'purpose: until when | basis: legal_obligation | retention: audit | subject: account_id';
COMMENT ON COLUMN consent.withdrawn_by IS 'purpose: the way it was withdrawn and the id of who did, no name | basis: legal_obligation | retention: audit | subject: account_id';

-- Which consents are in force, once more, where keys are read from: a key's row needs no look into the history.
ALTER TABLE account ADD COLUMN consents text[] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN account.consents IS 'purpose: consents in force, for routing | basis: contract | retention: account | subject: self';

CREATE TABLE incident (
    incident_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    title text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    nature text NOT NULL DEFAULT '',
    consequences text NOT NULL DEFAULT '',
    measures text NOT NULL DEFAULT '',
    aware_at timestamptz NOT NULL,
    opened_at timestamptz NOT NULL DEFAULT now(),
    authority_notified_at timestamptz,
    closed_at timestamptz,
    conclusion text,
    drill boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE incident IS 'purpose: register of incidents (GDPR article 33(5)) | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident.incident_id IS 'purpose: names the incident | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident.title IS 'purpose: what it is called | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident.nature IS 'purpose: what happened, for the notices | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident.consequences IS 'purpose: what may follow from it, for the notices | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident.measures IS 'purpose: what was and is done, for the notices | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident.aware_at IS 'purpose: begin of the legal clocks | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident.opened_at IS 'purpose: when it came into the register | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident.authority_notified_at IS 'purpose: when the authority was told | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident.closed_at IS 'purpose: when it ended | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident.conclusion IS 'purpose: why it could be closed | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident.drill IS 'purpose: whether it is an exercise | basis: legal_obligation | retention: audit | subject: none';

CREATE TABLE incident_scope (
    incident_id bigint NOT NULL REFERENCES incident ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('key', 'upstream', 'table')),
    object text NOT NULL,
    begins_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL CHECK (ends_at > begins_at),
    PRIMARY KEY (incident_id, kind, object, begins_at)
);
COMMENT ON TABLE incident_scope IS 'purpose: what an incident reached, and when | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident_scope.incident_id IS 'purpose: which incident | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident_scope.kind IS 'purpose: what kind of thing it reached | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident_scope.object IS 'purpose: which key, upstream or table | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident_scope.begins_at IS 'purpose: from when | basis: legal_obligation | retention: audit | subject: none';
COMMENT ON COLUMN incident_scope.ends_at IS 'purpose: until when | basis: legal_obligation | retention: audit | subject: none';

CREATE TABLE incident_notice (
    notice_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    incident_id bigint NOT NULL REFERENCES incident ON DELETE CASCADE,
    person_id uuid REFERENCES person ON DELETE SET NULL,
    way text NOT NULL CHECK (way IN ('mail', 'banner')),
    mail_id uuid,
    queued_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    outcome text
);
CREATE UNIQUE INDEX incident_notice_person ON incident_notice (incident_id, person_id);
CREATE INDEX incident_notice_of_person ON incident_notice (person_id);
CREATE INDEX incident_notice_mail ON incident_notice (mail_id) WHERE mail_id IS NOT NULL;
COMMENT ON TABLE incident_notice IS 'purpose: proof that people were told of an incident | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN incident_notice.notice_id IS 'purpose: one notice | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN incident_notice.incident_id IS 'purpose: of which incident | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN incident_notice.person_id IS 'purpose: who was told | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN incident_notice.way IS 'purpose: by letter, or by a banner where no mail is sent | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN incident_notice.mail_id IS 'purpose: which letter | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN incident_notice.queued_at IS 'purpose: since when the letter waits or the banner shows | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN incident_notice.ended_at IS 'purpose: when the letter ended or the banner was seen | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN incident_notice.outcome IS 'purpose: how it ended | basis: legal_obligation | retention: audit | subject: person_id';

-- Letters are forgotten a week after they went; that one went is kept with the incident.
CREATE FUNCTION note_incident_notice() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    UPDATE incident_notice SET ended_at = NEW.ended_at, outcome = NEW.outcome WHERE mail_id = NEW.mail_id;
    RETURN NULL;
END $$;
CREATE TRIGGER mail_proves_notice AFTER UPDATE OF ended_at ON mail
    FOR EACH ROW WHEN (NEW.ended_at IS NOT NULL AND NEW.kind = 'incident') EXECUTE FUNCTION note_incident_notice();

CREATE TABLE child_report (
    report_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    reported_address text,
    reporter_address text,
    relation text NOT NULL CHECK (relation IN ('parent', 'self', 'school', 'other')),
    received_at timestamptz NOT NULL DEFAULT now(),
    person_id uuid REFERENCES person ON DELETE SET NULL,
    decided_at timestamptz,
    decision text CHECK (decision IN ('confirmed', 'dismissed')),
    decided_by text,
    erase_due_at timestamptz,
    ended_at timestamptz,
    CHECK ((decided_at IS NULL) = (decision IS NULL))
);
CREATE INDEX child_report_open ON child_report (received_at) WHERE ended_at IS NULL;
CREATE INDEX child_report_person ON child_report (person_id);
COMMENT ON TABLE child_report IS 'purpose: reports that somebody here is under 16 | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN child_report.report_id IS 'purpose: names the report | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN child_report.reported_address IS 'purpose: who is meant; gone once the report has ended | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN child_report.reporter_address IS 'purpose: where an answer goes; gone once the report has ended | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN child_report.relation IS 'purpose: who reports, in one of four words | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN child_report.received_at IS 'purpose: when it came | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN child_report.person_id IS 'purpose: who it turned out to be | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN child_report.decided_at IS 'purpose: begin of the clock of the erasure | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN child_report.decision IS 'purpose: what an operator found | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN child_report.decided_by IS 'purpose: the way and the id of who decided, no name | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN child_report.erase_due_at IS 'purpose: until when the person''s data have to be gone | basis: legal_obligation | retention: audit | subject: person_id';
COMMENT ON COLUMN child_report.ended_at IS 'purpose: when they were gone, or the report dismissed | basis: legal_obligation | retention: audit | subject: person_id';
