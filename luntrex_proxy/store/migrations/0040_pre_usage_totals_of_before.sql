-- What there was before is added to the sums of the file before, while others go on storing. A statement sees both sides
-- as they were at one moment, and they are changed together since that file: what is missing at that moment is missing
-- for good, and what comes meanwhile adds to it.
INSERT INTO usage_total AS sums
SELECT account_id, hour, model, upstream, sum(requests), sum(errors), sum(input_tokens), sum(output_tokens), sum(cost_pico)
FROM (
    SELECT account_id, hour, model, upstream, requests, errors, input_tokens, output_tokens, cost_pico FROM usage_rollup
    UNION ALL
    SELECT account_id, hour, model, upstream, -requests, -errors, -input_tokens, -output_tokens, -cost_pico FROM usage_total
) signed GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
ON CONFLICT (account_id, hour, model, upstream) DO UPDATE SET requests = sums.requests + excluded.requests,
    errors = sums.errors + excluded.errors, input_tokens = sums.input_tokens + excluded.input_tokens,
    output_tokens = sums.output_tokens + excluded.output_tokens, cost_pico = sums.cost_pico + excluded.cost_pico;
DELETE FROM usage_total WHERE (requests, errors, input_tokens, output_tokens, cost_pico) = (0, 0, 0, 0, 0);
INSERT INTO usage_key_total AS sums
SELECT account_id, hour, key_id, sum(requests), sum(errors), sum(input_tokens), sum(output_tokens), sum(cost_pico)
FROM (
    SELECT account_id, hour, key_id, requests, errors, input_tokens, output_tokens, cost_pico FROM usage_rollup
    UNION ALL
    SELECT account_id, hour, key_id, -requests, -errors, -input_tokens, -output_tokens, -cost_pico FROM usage_key_total
) signed GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (account_id, hour, key_id) DO UPDATE SET requests = sums.requests + excluded.requests,
    errors = sums.errors + excluded.errors, input_tokens = sums.input_tokens + excluded.input_tokens,
    output_tokens = sums.output_tokens + excluded.output_tokens, cost_pico = sums.cost_pico + excluded.cost_pico;
DELETE FROM usage_key_total WHERE (requests, errors, input_tokens, output_tokens, cost_pico) = (0, 0, 0, 0, 0);
INSERT INTO usage_total_daily AS sums
SELECT account_id, day, model, upstream, sum(requests), sum(errors), sum(input_tokens), sum(output_tokens), sum(cost_pico)
FROM (
    SELECT account_id, day, model, upstream, requests, errors, input_tokens, output_tokens, cost_pico FROM usage_rollup_daily
    UNION ALL
    SELECT account_id, day, model, upstream, -requests, -errors, -input_tokens, -output_tokens, -cost_pico FROM usage_total_daily
) signed GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
ON CONFLICT (account_id, day, model, upstream) DO UPDATE SET requests = sums.requests + excluded.requests,
    errors = sums.errors + excluded.errors, input_tokens = sums.input_tokens + excluded.input_tokens,
    output_tokens = sums.output_tokens + excluded.output_tokens, cost_pico = sums.cost_pico + excluded.cost_pico;
DELETE FROM usage_total_daily WHERE (requests, errors, input_tokens, output_tokens, cost_pico) = (0, 0, 0, 0, 0);
INSERT INTO usage_key_total_daily AS sums
SELECT account_id, day, key_id, sum(requests), sum(errors), sum(input_tokens), sum(output_tokens), sum(cost_pico)
FROM (
    SELECT account_id, day, key_id, requests, errors, input_tokens, output_tokens, cost_pico FROM usage_rollup_daily
    UNION ALL
    SELECT account_id, day, key_id, -requests, -errors, -input_tokens, -output_tokens, -cost_pico FROM usage_key_total_daily
) signed GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (account_id, day, key_id) DO UPDATE SET requests = sums.requests + excluded.requests,
    errors = sums.errors + excluded.errors, input_tokens = sums.input_tokens + excluded.input_tokens,
    output_tokens = sums.output_tokens + excluded.output_tokens, cost_pico = sums.cost_pico + excluded.cost_pico;
DELETE FROM usage_key_total_daily WHERE (requests, errors, input_tokens, output_tokens, cost_pico) = (0, 0, 0, 0, 0);
