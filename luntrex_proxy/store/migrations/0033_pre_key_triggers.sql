-- What the database does by itself with keys, so that the release before this one is in time with it.

-- Up to which change keys were removed: a process that had read all changes up to it has seen each of them revoked, and
-- need not read all keys anew.
ALTER TABLE change_version ADD COLUMN removed_version bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN change_version.removed_version IS 'purpose: last change of a key that was removed, so that processes forget it | basis: none | retention: forever | subject: none';
CREATE FUNCTION note_removed_keys() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    UPDATE change_version SET removed_version = (SELECT max(version) FROM gone)
    WHERE removed_version < (SELECT max(version) FROM gone);
    RETURN NULL;
END $$;
CREATE TRIGGER note_removed_keys AFTER DELETE ON api_key REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION note_removed_keys();

-- A key that replaces another has its limits from the beginning, and what an admin limited stays so, whichever release
-- makes it. At the end of the transaction: the release before this one has copied the limits by then.
CREATE FUNCTION limit_successor() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    INSERT INTO usage_limit (account_id, key_id, limits, version)
    SELECT account_id, NEW.key_id, limits, NEW.version FROM usage_limit WHERE key_id = NEW.rotated_from
    ON CONFLICT DO NOTHING;
    UPDATE api_key k SET limited_by_admin = before.limited_by_admin FROM api_key before
    WHERE k.key_id = NEW.key_id AND before.key_id = NEW.rotated_from AND k.limited_by_admin = '{}'
        AND before.limited_by_admin <> '{}';
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER limit_successor AFTER INSERT ON api_key DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW WHEN (NEW.rotated_from IS NOT NULL) EXECUTE FUNCTION limit_successor();
