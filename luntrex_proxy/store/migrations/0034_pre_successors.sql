-- A key that replaces another has its limits from the beginning, with what holds while the database is away, and shares
-- its budgets, so that it brings no new money; whichever release makes it.
CREATE OR REPLACE FUNCTION limit_successor() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    INSERT INTO usage_limit (account_id, key_id, limits, version, when_away)
    SELECT account_id, NEW.key_id, limits, NEW.version, when_away FROM usage_limit WHERE key_id = NEW.rotated_from
    ON CONFLICT DO NOTHING;
    UPDATE budget SET key_ids = key_ids || NEW.key_id, version = NEW.version
    WHERE key_ids @> ARRAY[NEW.rotated_from] AND NOT key_ids @> ARRAY[NEW.key_id];
    UPDATE api_key k SET limited_by_admin = before.limited_by_admin FROM api_key before
    WHERE k.key_id = NEW.key_id AND before.key_id = NEW.rotated_from AND k.limited_by_admin = '{}'
        AND before.limited_by_admin <> '{}';
    RETURN NULL;
END $$;
