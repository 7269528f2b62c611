-- Sums that pictures need: of whole accounts by model and upstream, and of keys. A month is read from some hundred rows
-- then, and from one a day of each key, however many models these use.
-- The database keeps them itself, by what changes in the sums of keys, models and upstreams, in the same transaction:
-- whoever stores, prices anew, unlinks or drops (the release before this one too) changes all. What sums nothing any more
-- has no row. What is there already is added by the next file.

CREATE TABLE usage_total (
    account_id bigint NOT NULL,
    hour timestamptz NOT NULL,
    model text NOT NULL,
    upstream text NOT NULL,
    requests bigint NOT NULL,
    errors bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cost_pico numeric NOT NULL,
    PRIMARY KEY (account_id, hour, model, upstream)
) WITH (fillfactor = 80);
COMMENT ON TABLE usage_total IS 'purpose: usage of an account by hour, of all its keys together | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_total.account_id IS 'purpose: whose usage it is | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_total.hour IS 'purpose: start of the hour the sums cover | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_total.model IS 'purpose: catalogue name of the model, or other | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_total.upstream IS 'purpose: which upstream served it | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_total.requests IS 'purpose: number of requests | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_total.errors IS 'purpose: number of requests that did not end complete with a status below 400 | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_total.input_tokens IS 'purpose: sum for pictures | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_total.output_tokens IS 'purpose: sum for pictures | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_total.cost_pico IS 'purpose: sum for pictures in pico-dollars | basis: contract | retention: usage | subject: account_id';

CREATE TABLE usage_key_total (
    account_id bigint NOT NULL,
    hour timestamptz NOT NULL,
    key_id text NOT NULL,
    requests bigint NOT NULL,
    errors bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cost_pico numeric NOT NULL,
    PRIMARY KEY (account_id, hour, key_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE usage_key_total IS 'purpose: usage of a key by hour, of all models together | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_key_total.account_id IS 'purpose: whose usage it is | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_key_total.hour IS 'purpose: start of the hour the sums cover | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_key_total.key_id IS 'purpose: which key was used | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_key_total.requests IS 'purpose: number of requests | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_key_total.errors IS 'purpose: number of requests that did not end complete with a status below 400 | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_key_total.input_tokens IS 'purpose: sum for pictures | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_key_total.output_tokens IS 'purpose: sum for pictures | basis: contract | retention: usage | subject: account_id';
COMMENT ON COLUMN usage_key_total.cost_pico IS 'purpose: sum for pictures in pico-dollars | basis: contract | retention: usage | subject: account_id';

CREATE TABLE usage_total_daily (
    account_id bigint NOT NULL,
    day date NOT NULL,
    model text NOT NULL,
    upstream text NOT NULL,
    requests bigint NOT NULL,
    errors bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cost_pico numeric NOT NULL,
    PRIMARY KEY (account_id, day, model, upstream)
) WITH (fillfactor = 80);
COMMENT ON TABLE usage_total_daily IS 'purpose: usage of an account by day, of all its keys together | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_total_daily.account_id IS 'purpose: whose usage it is | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_total_daily.day IS 'purpose: UTC day the sums cover | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_total_daily.model IS 'purpose: catalogue name of the model, or other | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_total_daily.upstream IS 'purpose: which upstream served it | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_total_daily.requests IS 'purpose: number of requests | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_total_daily.errors IS 'purpose: number of requests that did not end complete with a status below 400 | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_total_daily.input_tokens IS 'purpose: sum for pictures | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_total_daily.output_tokens IS 'purpose: sum for pictures | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_total_daily.cost_pico IS 'purpose: sum for pictures in pico-dollars | basis: legal_obligation | retention: totals | subject: account_id';

CREATE TABLE usage_key_total_daily (
    account_id bigint NOT NULL,
    day date NOT NULL,
    key_id text NOT NULL,
    requests bigint NOT NULL,
    errors bigint NOT NULL,
    input_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cost_pico numeric NOT NULL,
    PRIMARY KEY (account_id, day, key_id)
) WITH (fillfactor = 80);
COMMENT ON TABLE usage_key_total_daily IS 'purpose: usage of a key by day, of all models together | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_key_total_daily.account_id IS 'purpose: whose usage it is | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_key_total_daily.day IS 'purpose: UTC day the sums cover | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_key_total_daily.key_id IS 'purpose: which key was used | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_key_total_daily.requests IS 'purpose: number of requests | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_key_total_daily.errors IS 'purpose: number of requests that did not end complete with a status below 400 | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_key_total_daily.input_tokens IS 'purpose: sum for pictures | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_key_total_daily.output_tokens IS 'purpose: sum for pictures | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_key_total_daily.cost_pico IS 'purpose: sum for pictures in pico-dollars | basis: legal_obligation | retention: totals | subject: account_id';

CREATE FUNCTION keep_usage_totals() RETURNS trigger LANGUAGE plpgsql AS
$$ DECLARE
    kept text;
    added text := 'sum(sign * requests), sum(sign * errors), sum(sign * input_tokens), sum(sign * output_tokens),'
        ' sum(sign * cost_pico) FROM signed';
    or_add text := 'DO UPDATE SET requests = sums.requests + excluded.requests, errors = sums.errors + excluded.errors,'
        ' input_tokens = sums.input_tokens + excluded.input_tokens,'
        ' output_tokens = sums.output_tokens + excluded.output_tokens, cost_pico = sums.cost_pico + excluded.cost_pico';
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        EXECUTE format('TRUNCATE %I, %I', TG_ARGV[1], TG_ARGV[2]);
        RETURN NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM changed) THEN
        RETURN NULL;
    END IF;
    -- In one order, so that of two who add to the same rows one waits for the other.
    EXECUTE format(
        'WITH signed AS MATERIALIZED (%4$s), whole AS (INSERT INTO %2$I AS sums SELECT account_id, %1$I, model, upstream,'
        ' %5$s GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4 ON CONFLICT (account_id, %1$I, model, upstream) %6$s)'
        ' INSERT INTO %3$I AS sums SELECT account_id, %1$I, key_id, %5$s GROUP BY 1, 2, 3 ORDER BY 1, 2, 3'
        ' ON CONFLICT (account_id, %1$I, key_id) %6$s',
        TG_ARGV[0], TG_ARGV[1], TG_ARGV[2], CASE TG_OP
            WHEN 'INSERT' THEN 'SELECT 1 AS sign, * FROM changed'
            WHEN 'DELETE' THEN 'SELECT -1 AS sign, * FROM changed'
            ELSE 'SELECT 1 AS sign, * FROM changed UNION ALL SELECT -1, * FROM was'
        END, added, or_add);
    IF TG_OP = 'DELETE' THEN
        FOREACH kept IN ARRAY TG_ARGV[1:2] LOOP
            EXECUTE format(
                'DELETE FROM %2$I sums USING (SELECT DISTINCT account_id, %1$I AS at FROM changed) gone'
                ' WHERE sums.account_id = gone.account_id AND sums.%1$I = gone.at'
                ' AND (requests, errors, input_tokens, output_tokens, cost_pico) = (0, 0, 0, 0, 0)', TG_ARGV[0], kept);
        END LOOP;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER keep_usage_totals_new AFTER INSERT ON usage_rollup REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION keep_usage_totals('hour', 'usage_total', 'usage_key_total');
CREATE TRIGGER keep_usage_totals_other AFTER UPDATE ON usage_rollup REFERENCING NEW TABLE AS changed OLD TABLE AS was
    FOR EACH STATEMENT EXECUTE FUNCTION keep_usage_totals('hour', 'usage_total', 'usage_key_total');
CREATE TRIGGER keep_usage_totals_gone AFTER DELETE ON usage_rollup REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION keep_usage_totals('hour', 'usage_total', 'usage_key_total');
CREATE TRIGGER keep_usage_totals_none AFTER TRUNCATE ON usage_rollup
    FOR EACH STATEMENT EXECUTE FUNCTION keep_usage_totals('hour', 'usage_total', 'usage_key_total');
CREATE TRIGGER keep_usage_totals_new AFTER INSERT ON usage_rollup_daily REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION keep_usage_totals('day', 'usage_total_daily', 'usage_key_total_daily');
CREATE TRIGGER keep_usage_totals_other AFTER UPDATE ON usage_rollup_daily REFERENCING NEW TABLE AS changed OLD TABLE AS was
    FOR EACH STATEMENT EXECUTE FUNCTION keep_usage_totals('day', 'usage_total_daily', 'usage_key_total_daily');
CREATE TRIGGER keep_usage_totals_gone AFTER DELETE ON usage_rollup_daily REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION keep_usage_totals('day', 'usage_total_daily', 'usage_key_total_daily');
CREATE TRIGGER keep_usage_totals_none AFTER TRUNCATE ON usage_rollup_daily
    FOR EACH STATEMENT EXECUTE FUNCTION keep_usage_totals('day', 'usage_total_daily', 'usage_key_total_daily');
