-- How people sign in: sessions, one-time links, invitations, second factors, failed tries, and mail on its way.
CREATE TABLE session (
    session_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
    person_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
    awaits_code boolean NOT NULL DEFAULT false,
    network text NOT NULL,
    started_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz NOT NULL DEFAULT now(),
    authenticated_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz
);
CREATE UNIQUE INDEX session_token ON session (token_hash);
CREATE INDEX session_person ON session (person_id);
COMMENT ON TABLE session IS 'purpose: who is signed in, and where from | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN session.session_id IS 'purpose: names a session in lists, worth nothing by itself | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN session.token_hash IS 'purpose: recognises the cookie, from which alone it can be made | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN session.person_id IS 'purpose: who is signed in | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN session.awaits_code IS 'purpose: whether the second factor is still to come | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN session.network IS 'purpose: lets the person recognise a session: a network, no address | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN session.started_at IS 'purpose: bounds a session | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN session.last_used_at IS 'purpose: ends what nobody uses, to the minute | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN session.authenticated_at IS 'purpose: how long ago the person proved to be it, for dangerous acts | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN session.ended_at IS 'purpose: since when it is void | basis: contract | retention: session | subject: person_id';

CREATE TABLE invitation (
    invitation_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    email text NOT NULL CHECK (email = lower(email) AND email ~ '^[^@\s]{1,64}@[^@\s]{1,255}$'),
    role text NOT NULL CHECK (role IN ('owner', 'admin', 'developer', 'billing', 'viewer', 'privacy')),
    invited_by uuid REFERENCES person ON DELETE SET NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX invitation_email ON invitation (account_id, email);
COMMENT ON TABLE invitation IS 'purpose: who may join an account and has not yet | basis: contract | retention: signup | subject: email';
COMMENT ON COLUMN invitation.invitation_id IS 'purpose: link of the one-time link | basis: contract | retention: signup | subject: email';
COMMENT ON COLUMN invitation.account_id IS 'purpose: which account | basis: contract | retention: signup | subject: email';
COMMENT ON COLUMN invitation.email IS 'purpose: where the invitation goes, and who may take it up | basis: contract | retention: signup | subject: email';
COMMENT ON COLUMN invitation.role IS 'purpose: what the person would be there | basis: contract | retention: signup | subject: email';
COMMENT ON COLUMN invitation.invited_by IS 'purpose: who answers for it | basis: contract | retention: signup | subject: email';
COMMENT ON COLUMN invitation.created_at IS 'purpose: age of the invitation | basis: contract | retention: signup | subject: email';
COMMENT ON COLUMN invitation.expires_at IS 'purpose: until when it can be taken up | basis: contract | retention: signup | subject: email';

CREATE TABLE one_time_link (
    token_hash bytea PRIMARY KEY CHECK (octet_length(token_hash) = 32),
    kind text NOT NULL CHECK (kind IN ('first', 'setup', 'reset', 'invitation')),
    person_id uuid REFERENCES person ON DELETE CASCADE,
    invitation_id uuid REFERENCES invitation ON DELETE CASCADE,
    by_mail boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    CHECK ((kind = 'first') = (person_id IS NULL AND invitation_id IS NULL)),
    CHECK ((kind = 'invitation') = (invitation_id IS NOT NULL))
);
CREATE INDEX one_time_link_person ON one_time_link (person_id);
CREATE INDEX one_time_link_invitation ON one_time_link (invitation_id);
COMMENT ON TABLE one_time_link IS 'purpose: links that let somebody in once | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN one_time_link.token_hash IS 'purpose: recognises the link, from which alone it can be made | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN one_time_link.kind IS 'purpose: what it lets do | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN one_time_link.person_id IS 'purpose: whom it lets in | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN one_time_link.invitation_id IS 'purpose: which invitation it takes up | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN one_time_link.by_mail IS 'purpose: whether it went to the address, which then is known to be the person''s | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN one_time_link.created_at IS 'purpose: age of the link | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN one_time_link.expires_at IS 'purpose: until when it works | basis: contract | retention: day | subject: person_id';
COMMENT ON COLUMN one_time_link.used_at IS 'purpose: works once | basis: contract | retention: day | subject: person_id';

CREATE TABLE totp (
    person_id uuid PRIMARY KEY REFERENCES person ON DELETE CASCADE,
    seed bytea NOT NULL,
    confirmed_at timestamptz,
    last_step bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE totp IS 'purpose: second factor of a person: one-time codes of an app | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN totp.person_id IS 'purpose: whose | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN totp.seed IS 'purpose: makes the codes, encrypted by a data key | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN totp.confirmed_at IS 'purpose: since when codes are asked for | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN totp.last_step IS 'purpose: no code works twice | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN totp.created_at IS 'purpose: age of the seed | basis: contract | retention: account | subject: person_id';

CREATE TABLE recovery_code (
    person_id uuid NOT NULL REFERENCES person ON DELETE CASCADE,
    code_hash bytea NOT NULL CHECK (octet_length(code_hash) = 32),
    PRIMARY KEY (person_id, code_hash)
);
COMMENT ON TABLE recovery_code IS 'purpose: stands in for the second factor, each once | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN recovery_code.person_id IS 'purpose: whose | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN recovery_code.code_hash IS 'purpose: recognises the code, from which alone it can be made | basis: contract | retention: account | subject: person_id';

CREATE TABLE sign_in_failure (
    subject_hash bytea PRIMARY KEY CHECK (octet_length(subject_hash) = 32),
    failures integer NOT NULL,
    last_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE sign_in_failure IS 'purpose: makes guessing slow, for known and unknown addresses alike | basis: legitimate_interest | retention: day | subject: self';
COMMENT ON COLUMN sign_in_failure.subject_hash IS 'purpose: keyed hash of what is guessed at | basis: legitimate_interest | retention: day | subject: self';
COMMENT ON COLUMN sign_in_failure.failures IS 'purpose: how long the next try has to wait | basis: legitimate_interest | retention: day | subject: self';
COMMENT ON COLUMN sign_in_failure.last_at IS 'purpose: since when it waits | basis: legitimate_interest | retention: day | subject: self';

CREATE TABLE mail (
    mail_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind text NOT NULL CHECK (kind ~ '^[a-z_]{1,40}$'),
    person_id uuid REFERENCES person ON DELETE CASCADE,
    address text,
    facts jsonb NOT NULL DEFAULT '{}',
    queued_at timestamptz NOT NULL DEFAULT now(),
    due_at timestamptz NOT NULL DEFAULT now(),
    tries integer NOT NULL DEFAULT 0,
    unresolved integer NOT NULL DEFAULT 0,
    last_error text,
    ended_at timestamptz,
    outcome text CHECK (outcome IN ('sent', 'needless', 'refused', 'given_up', 'unknown')),
    CHECK ((ended_at IS NULL) = (outcome IS NULL)),
    CHECK (ended_at IS NOT NULL OR (person_id IS NULL) <> (address IS NULL))
);
CREATE INDEX mail_due ON mail (due_at) WHERE ended_at IS NULL;
CREATE INDEX mail_person ON mail (person_id);
COMMENT ON TABLE mail IS 'purpose: letters on their way; what one says is made when it is sent | basis: contract | retention: mail | subject: person_id';
COMMENT ON COLUMN mail.mail_id IS 'purpose: names the letter in both queue and header | basis: contract | retention: mail | subject: person_id';
COMMENT ON COLUMN mail.kind IS 'purpose: which letter | basis: contract | retention: mail | subject: person_id';
COMMENT ON COLUMN mail.person_id IS 'purpose: to whom | basis: contract | retention: mail | subject: person_id';
COMMENT ON COLUMN mail.address IS 'purpose: to whom, when that is no person of ours; gone once sent | basis: contract | retention: mail | subject: person_id';
COMMENT ON COLUMN mail.facts IS 'purpose: ids, numbers and fixed words for the letter, never a token | basis: contract | retention: mail | subject: person_id';
COMMENT ON COLUMN mail.queued_at IS 'purpose: age; given up after a day | basis: contract | retention: mail | subject: person_id';
COMMENT ON COLUMN mail.due_at IS 'purpose: when to try next | basis: contract | retention: mail | subject: person_id';
COMMENT ON COLUMN mail.tries IS 'purpose: how long to wait between tries | basis: contract | retention: mail | subject: person_id';
COMMENT ON COLUMN mail.unresolved IS 'purpose: tries whose end nobody knows, so that none goes out three times | basis: contract | retention: mail | subject: person_id';
COMMENT ON COLUMN mail.last_error IS 'purpose: a word about the last failure | basis: contract | retention: mail | subject: person_id';
COMMENT ON COLUMN mail.ended_at IS 'purpose: since when nothing is to be done | basis: contract | retention: mail | subject: person_id';
COMMENT ON COLUMN mail.outcome IS 'purpose: how it ended | basis: contract | retention: mail | subject: person_id';
