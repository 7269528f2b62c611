-- What keep_usage_totals() (migration 0039) does, in statements that a session plans once: it put them together anew for
-- each batch of records, and to plan them cost more than to run them. Written out here for both periods and each change.

DO $do$
DECLARE
    added text := 'sum(sign * requests), sum(sign * errors), sum(sign * input_tokens), sum(sign * output_tokens),'
        ' sum(sign * cost_pico) FROM signed';
    or_add text := 'DO UPDATE SET requests = sums.requests + excluded.requests, errors = sums.errors + excluded.errors,'
        ' input_tokens = sums.input_tokens + excluded.input_tokens,'
        ' output_tokens = sums.output_tokens + excluded.output_tokens, cost_pico = sums.cost_pico + excluded.cost_pico';
    body text := '';
    one record;
BEGIN
    FOR one IN
        SELECT * FROM (VALUES ('hour', ''), ('day', '_daily')) periods (at, suffix) CROSS JOIN (VALUES
            ('INSERT', 'SELECT 1 AS sign, * FROM changed'),
            ('UPDATE', 'SELECT 1 AS sign, * FROM changed UNION ALL SELECT -1, * FROM was'),
            ('DELETE', 'SELECT -1 AS sign, * FROM changed')
        ) changes (op, signed)
    LOOP
        -- In one order, so that of two who add to the same rows one waits for the other.
        body := body || format(
            $$ ELSIF TG_OP = %1$L AND TG_ARGV[0] = %2$L THEN
                WITH signed AS MATERIALIZED (%3$s), whole AS (
                    INSERT INTO usage_total%4$s AS sums SELECT account_id, %2$I, model, upstream, %5$s
                    GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4 ON CONFLICT (account_id, %2$I, model, upstream) %6$s
                )
                INSERT INTO usage_key_total%4$s AS sums SELECT account_id, %2$I, key_id, %5$s
                GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 ON CONFLICT (account_id, %2$I, key_id) %6$s; $$,
            one.op, one.at, one.signed, one.suffix, added, or_add);
    END LOOP;
    EXECUTE format($function$
        CREATE OR REPLACE FUNCTION keep_usage_totals() RETURNS trigger LANGUAGE plpgsql AS
        $body$ DECLARE
            kept text;
        BEGIN
            IF TG_OP = 'TRUNCATE' THEN
                EXECUTE format('TRUNCATE %%I, %%I', TG_ARGV[1], TG_ARGV[2]);
                RETURN NULL;
            END IF;
            IF NOT EXISTS (SELECT FROM changed) THEN
                RETURN NULL; %s
            END IF;
            IF TG_OP = 'DELETE' THEN
                FOREACH kept IN ARRAY TG_ARGV[1:2] LOOP
                    EXECUTE format(
                        'DELETE FROM %%2$I sums USING (SELECT DISTINCT account_id, %%1$I AS at FROM changed) gone'
                        ' WHERE sums.account_id = gone.account_id AND sums.%%1$I = gone.at'
                        ' AND (requests, errors, input_tokens, output_tokens, cost_pico) = (0, 0, 0, 0, 0)',
                        TG_ARGV[0], kept);
                END LOOP;
            END IF;
            RETURN NULL;
        END $body$
    $function$, body);
END $do$;
