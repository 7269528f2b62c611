-- How much money an account, a key or a member may cost. What is spent is counted where usage is stored, by the rows
-- really stored; what processes may spend beyond that they have borrowed here before, so that together they spend no
-- more than there is. The days and months of an account begin in its own time zone.
ALTER TABLE account ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC';
COMMENT ON COLUMN account.time_zone IS 'purpose: when days and months of its budgets begin | basis: contract | retention: account | subject: self';

CREATE TABLE budget (
    budget_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    key_id text REFERENCES api_key ON DELETE CASCADE,
    key_ids text[] NOT NULL DEFAULT '{}',
    person_id uuid REFERENCES person ON DELETE CASCADE,
    period text NOT NULL CHECK (period IN ('day', 'month', 'total')),
    amount_pico numeric CHECK (amount_pico > 0),
    is_hard boolean NOT NULL,
    when_away text NOT NULL CHECK (when_away IN ('open', 'closed')),
    alert_percents smallint[] NOT NULL,
    since timestamptz NOT NULL DEFAULT now(),
    version bigint NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nonnulls(key_id, person_id) <= 1),
    CHECK ((key_id IS NULL) = (key_ids = '{}'))
);
CREATE UNIQUE INDEX budget_whose ON budget (account_id, coalesce(key_id, ''), coalesce(person_id::text, ''), period);
CREATE INDEX budget_keys ON budget USING gin (key_ids);
CREATE INDEX budget_person ON budget (person_id) WHERE person_id IS NOT NULL;
CREATE INDEX budget_key ON budget (key_id) WHERE key_id IS NOT NULL;
CREATE INDEX budget_version ON budget (version);
COMMENT ON TABLE budget IS 'purpose: how much money an account, a key or a member may cost in a time | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN budget.budget_id IS 'purpose: link of what is spent | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN budget.account_id IS 'purpose: whose budget, or in whose account | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN budget.key_id IS 'purpose: of which key, the first of those that replaced each other; NULL: of no key | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN budget.key_ids IS 'purpose: the key and those that replaced it, which share the budget | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN budget.person_id IS 'purpose: of which member, all of their own keys in the account together; NULL: of no member | basis: contract | retention: account | subject: person_id';
COMMENT ON COLUMN budget.period IS 'purpose: the time it is for | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN budget.amount_pico IS 'purpose: the amount in pico-dollars; NULL: there is no such budget any more | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN budget.is_hard IS 'purpose: whether requests beyond it are refused, or only told of | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN budget.when_away IS 'purpose: whether requests are let in while nobody can say what is left | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN budget.alert_percents IS 'purpose: at which parts of the amount somebody is told | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN budget.since IS 'purpose: from when a budget in total counts | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN budget.version IS 'purpose: change order for incremental reloads | basis: none | retention: account | subject: none';
COMMENT ON COLUMN budget.changed_at IS 'purpose: since when the budget is as it is | basis: contract | retention: account | subject: account_id';

-- One row per budget and day, month or total. `alerted` is the highest percentage that was told.
CREATE TABLE budget_window (
    budget_id bigint NOT NULL REFERENCES budget ON DELETE CASCADE,
    begins_at timestamptz NOT NULL,
    ends_at timestamptz,
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    spent_pico numeric NOT NULL DEFAULT 0,
    unknown_pico numeric NOT NULL DEFAULT 0,
    short_at timestamptz,
    alerted smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (budget_id, begins_at)
) WITH (fillfactor = 50);
COMMENT ON TABLE budget_window IS 'purpose: what was spent of a budget in each of its times, to stop and to recognise misuse | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN budget_window.budget_id IS 'purpose: which budget | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN budget_window.begins_at IS 'purpose: beginning of the time | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN budget_window.ends_at IS 'purpose: end of the time; NULL: it has none | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN budget_window.account_id IS 'purpose: in whose account | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN budget_window.spent_pico IS 'purpose: cost of the requests stored as usage, in pico-dollars | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN budget_window.unknown_pico IS 'purpose: what was reserved for requests of which nobody knows what they used, in pico-dollars | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN budget_window.short_at IS 'purpose: when a process could not borrow what it needed, so that others return what they do not use | basis: none | retention: security | subject: none';
COMMENT ON COLUMN budget_window.alerted IS 'purpose: which percentage was told already | basis: contract | retention: security | subject: account_id';

-- What a process has borrowed of a window. It goes, with the process, when its last record is stored.
CREATE TABLE budget_lease (
    budget_id bigint NOT NULL REFERENCES budget ON DELETE CASCADE,
    begins_at timestamptz NOT NULL,
    boot_id uuid NOT NULL,
    account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE,
    granted_pico numeric NOT NULL,
    shipped_pico numeric NOT NULL DEFAULT 0,
    unknown_pico numeric NOT NULL DEFAULT 0,
    sequence bigint NOT NULL,
    last_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (budget_id, begins_at, boot_id)
) WITH (fillfactor = 50);
CREATE INDEX budget_lease_boot ON budget_lease (boot_id);
COMMENT ON TABLE budget_lease IS 'purpose: what each process may spend of a budget and has not told of yet | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN budget_lease.budget_id IS 'purpose: which budget | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN budget_lease.begins_at IS 'purpose: beginning of the time it is for | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN budget_lease.boot_id IS 'purpose: which process, by its spool directory | basis: none | retention: security | subject: none';
COMMENT ON COLUMN budget_lease.account_id IS 'purpose: in whose account | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN budget_lease.granted_pico IS 'purpose: what the process may spend in this time, in pico-dollars | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN budget_lease.shipped_pico IS 'purpose: what its stored requests cost, in pico-dollars | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN budget_lease.unknown_pico IS 'purpose: what it reserved for requests of which nobody knows what they used, in pico-dollars | basis: contract | retention: security | subject: account_id';
COMMENT ON COLUMN budget_lease.sequence IS 'purpose: the order in which the process asked, so that a late statement changes nothing | basis: none | retention: security | subject: none';
COMMENT ON COLUMN budget_lease.last_at IS 'purpose: when the process asked last | basis: none | retention: security | subject: none';

-- The time of a budget that a moment belongs to. Times follow each other without gap and overlap whatever clocks do at
-- midnight: each begins at the moment that its first local midnight is taken for, or the one before while that is to come.
CREATE FUNCTION budget_span(period text, since timestamptz, zone text, moment timestamptz)
RETURNS TABLE (begins_at timestamptz, ends_at timestamptz) LANGUAGE sql STABLE AS
$$
SELECT CASE WHEN period = 'total' THEN since WHEN this <= moment THEN this ELSE previous END,
       CASE WHEN period = 'total' THEN NULL WHEN this <= moment THEN following ELSE this END
FROM (SELECT date_trunc(CASE period WHEN 'month' THEN 'month' ELSE 'day' END, moment AT TIME ZONE zone) AS local,
             CASE period WHEN 'month' THEN interval '1 month' ELSE interval '1 day' END AS step) a,
     LATERAL (SELECT local AT TIME ZONE zone AS this, (local - step) AT TIME ZONE zone AS previous,
                     (local + step) AT TIME ZONE zone AS following) b
$$;
