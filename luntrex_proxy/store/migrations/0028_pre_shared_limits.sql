-- What is used of limits by all processes together, so that a limit allows its amount once however many there are, and a
-- restart gives nobody a new one. Processes tell here what they let in; how far they may be ahead is in core/buckets.py.
ALTER TABLE usage_limit ADD COLUMN limit_id bigint GENERATED ALWAYS AS IDENTITY UNIQUE;
ALTER TABLE usage_limit ADD COLUMN when_away text NOT NULL DEFAULT 'open' CHECK (when_away IN ('open', 'closed'));
COMMENT ON COLUMN usage_limit.limit_id IS 'purpose: link of what is used | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN usage_limit.when_away IS 'purpose: whether requests are let in while nobody can say what is used | basis: contract | retention: account | subject: account_id';

-- `level` is what was used and did not fill up again at `last_at`, in units; it fills up by `rate` units per second.
CREATE TABLE limit_level (
    limit_id bigint NOT NULL REFERENCES usage_limit (limit_id) ON DELETE CASCADE,
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    model text NOT NULL,
    word text NOT NULL,
    level double precision NOT NULL,
    rate double precision NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (limit_id, model, word)
) WITH (fillfactor = 50);
COMMENT ON TABLE limit_level IS 'purpose: what is used of limits in a time, to keep to them and to recognise misuse | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN limit_level.limit_id IS 'purpose: whose limits | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN limit_level.account_id IS 'purpose: in whose account | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN limit_level.model IS 'purpose: of which models | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN limit_level.word IS 'purpose: which limit of those | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN limit_level.level IS 'purpose: what is used | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN limit_level.rate IS 'purpose: how fast it fills up | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN limit_level.last_at IS 'purpose: when it was told last | basis: contract | retention: security | subject: account_id';

-- Streams that run, by process; those of a process that has not told of them for a while are over.
CREATE TABLE limit_streams (
    limit_id bigint NOT NULL REFERENCES usage_limit (limit_id) ON DELETE CASCADE,
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    model text NOT NULL,
    boot_id uuid NOT NULL,
    count bigint NOT NULL,
    last_at timestamptz NOT NULL,
    PRIMARY KEY (limit_id, model, boot_id)
) WITH (fillfactor = 50);
COMMENT ON TABLE limit_streams IS 'purpose: how many streams run, to keep to limits | basis: contract | retention: day | subject: account_id';
COMMENT ON COLUMN limit_streams.limit_id IS 'purpose: whose limits | basis: contract | retention: day | subject: account_id';
COMMENT ON COLUMN limit_streams.account_id IS 'purpose: in whose account | basis: contract | retention: day | subject: account_id';
COMMENT ON COLUMN limit_streams.model IS 'purpose: of which models | basis: contract | retention: day | subject: account_id';
COMMENT ON COLUMN limit_streams.boot_id IS 'purpose: which process | basis: none | retention: day | subject: none';
COMMENT ON COLUMN limit_streams.count IS 'purpose: how many run there | basis: contract | retention: day | subject: account_id';
COMMENT ON COLUMN limit_streams.last_at IS 'purpose: when it was told last | basis: contract | retention: day | subject: account_id';
