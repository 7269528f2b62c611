-- Work that takes long, with how far it is: whoever began it can leave and find it again. One row is written while the
-- work runs, every second; one that says nothing for longer was interrupted.
CREATE TABLE work (
    work_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind text NOT NULL CHECK (kind IN ('export', 'erasure', 'repricing', 'closing')),
    person_id uuid REFERENCES person ON DELETE CASCADE,
    about jsonb NOT NULL DEFAULT '{}',
    begun_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    told_at timestamptz NOT NULL DEFAULT now(),
    done bigint NOT NULL DEFAULT 0,
    expected bigint NOT NULL DEFAULT 0,
    ended_at timestamptz,
    outcome text CHECK (outcome IN ('done', 'failed', 'stopped', 'interrupted')),
    result jsonb NOT NULL DEFAULT '{}',
    CHECK ((ended_at IS NULL) = (outcome IS NULL))
);
CREATE UNIQUE INDEX work_one_at_a_time ON work (kind) WHERE ended_at IS NULL AND kind IN ('repricing', 'closing');
CREATE INDEX work_created_at ON work (created_at);
COMMENT ON TABLE work IS 'purpose: how far long work is, for who began it | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN work.work_id IS 'purpose: identify it | basis: contract | retention: session | subject: none';
COMMENT ON COLUMN work.kind IS 'purpose: what is done | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN work.person_id IS 'purpose: whose data an export gives out | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN work.about IS 'purpose: of what it is done: days, months, ids, names of models | basis: contract | retention: session | subject: none';
COMMENT ON COLUMN work.begun_by IS 'purpose: the way it was begun and the id of who did, no name | basis: contract | retention: session | subject: none';
COMMENT ON COLUMN work.created_at IS 'purpose: since when it runs | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN work.told_at IS 'purpose: notice that it was interrupted | basis: contract | retention: session | subject: none';
COMMENT ON COLUMN work.done IS 'purpose: how far it is | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN work.expected IS 'purpose: how far it has to come | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN work.ended_at IS 'purpose: until when it ran | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN work.outcome IS 'purpose: how it ended | basis: contract | retention: session | subject: person_id';
COMMENT ON COLUMN work.result IS 'purpose: what came of it in numbers, or why it failed in our own words | basis: contract | retention: session | subject: none';
