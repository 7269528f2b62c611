-- Budgets of a label: of all keys of an account that carry one value of it. Usage of a day counts for the label that its
-- key carries on that day.
ALTER TABLE budget ADD COLUMN label_name text;
ALTER TABLE budget ADD COLUMN label_value text;
ALTER TABLE budget ADD CHECK (num_nonnulls(key_id, person_id, label_name) <= 1);
ALTER TABLE budget ADD CHECK ((label_name IS NULL) = (label_value IS NULL));
COMMENT ON COLUMN budget.label_name IS 'purpose: of the keys that carry which label; NULL: of no label | basis: contract | retention: account | subject: account_id';
COMMENT ON COLUMN budget.label_value IS 'purpose: with which value | basis: contract | retention: account | subject: account_id';
DROP INDEX budget_whose;
CREATE UNIQUE INDEX budget_whose ON budget (account_id, coalesce(key_id, ''), coalesce(person_id::text, ''),
    coalesce(label_name || '=' || label_value, ''), period);

-- Who follows budgets has to hear when other keys carry a label. The change has taken its version by then.
CREATE FUNCTION note_labelled_keys() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    UPDATE budget SET version = (SELECT version FROM change_version)
    WHERE label_name IS NOT NULL AND account_id IN (SELECT account_id FROM changed);
    RETURN NULL;
END $$;
CREATE TRIGGER note_labelled_keys_new AFTER INSERT ON key_label REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_labelled_keys();
CREATE TRIGGER note_labelled_keys_other AFTER UPDATE ON key_label REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_labelled_keys();
CREATE TRIGGER note_labelled_keys_gone AFTER DELETE ON key_label REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_labelled_keys();
