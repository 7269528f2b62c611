-- Daily sums outlive single requests and hourly sums; `usage_retention` is the line below which nothing comes back.

CREATE TABLE usage_retention (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    kept_from timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO usage_retention DEFAULT VALUES;
COMMENT ON TABLE usage_retention IS 'purpose: records older than what retention dropped are never stored again | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN usage_retention.only_row IS 'purpose: keeps the table at one row | basis: none | retention: forever | subject: none';
COMMENT ON COLUMN usage_retention.kept_from IS 'purpose: start of the first UTC day that retention has not dropped; only ever moves forward | basis: none | retention: forever | subject: none';

-- Changed like usage_rollup, in the same transaction; kept longer, because bills and charts of past years need no more.
CREATE TABLE usage_rollup_daily (
    account_id bigint NOT NULL,
    day date NOT NULL,
    key_id text NOT NULL,
    model text NOT NULL,
    upstream text NOT NULL,
    requests bigint NOT NULL,
    errors bigint NOT NULL,
    input_tokens bigint NOT NULL,
    cached_input_tokens bigint NOT NULL,
    cache_write_5m_tokens bigint NOT NULL,
    cache_write_1h_tokens bigint NOT NULL,
    input_audio_tokens bigint NOT NULL,
    output_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    output_audio_tokens bigint NOT NULL,
    cost_pico numeric NOT NULL,
    PRIMARY KEY (account_id, day, key_id, model, upstream)
) WITH (fillfactor = 80);
-- Old rows are found by time alone; they lie together, and this costs an insert next to nothing.
CREATE INDEX usage_rollup_hour ON usage_rollup USING brin (hour);
CREATE INDEX usage_rollup_daily_day ON usage_rollup_daily USING brin (day);
COMMENT ON TABLE usage_rollup_daily IS 'purpose: usage and billing totals by day, no single request | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.account_id IS 'purpose: whose usage it is | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.day IS 'purpose: UTC day the sums cover | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.key_id IS 'purpose: which key was used | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.model IS 'purpose: catalogue name of the model, or other | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.upstream IS 'purpose: which upstream served it | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.requests IS 'purpose: number of requests | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.errors IS 'purpose: number of requests that did not end complete with a status below 400 | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.input_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.cached_input_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.cache_write_5m_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.cache_write_1h_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.input_audio_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.output_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.reasoning_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.output_audio_tokens IS 'purpose: billing sum | basis: legal_obligation | retention: totals | subject: account_id';
COMMENT ON COLUMN usage_rollup_daily.cost_pico IS 'purpose: billing sum in pico-dollars | basis: legal_obligation | retention: totals | subject: account_id';

-- Nobody may be between reading and writing the hourly sums while they are added up.
LOCK TABLE usage_rollup IN SHARE ROW EXCLUSIVE MODE;
INSERT INTO usage_rollup_daily (account_id, day, key_id, model, upstream, requests, errors,
    input_tokens, cached_input_tokens, cache_write_5m_tokens, cache_write_1h_tokens, input_audio_tokens, output_tokens, reasoning_tokens, output_audio_tokens, cost_pico)
SELECT account_id, (hour AT TIME ZONE 'UTC')::date, key_id, model, upstream,
    sum(requests)::bigint,
    sum(errors)::bigint,
    sum(input_tokens)::bigint,
    sum(cached_input_tokens)::bigint,
    sum(cache_write_5m_tokens)::bigint,
    sum(cache_write_1h_tokens)::bigint,
    sum(input_audio_tokens)::bigint,
    sum(output_tokens)::bigint,
    sum(reasoning_tokens)::bigint,
    sum(output_audio_tokens)::bigint,
    sum(cost_pico)
FROM usage_rollup GROUP BY 1, 2, 3, 4, 5;
