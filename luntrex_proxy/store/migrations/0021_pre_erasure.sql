-- Which entry of the audit log told of keys that were removed: a ring that was read before it is read anew.
ALTER TABLE change_version RENAME COLUMN removed_at_version TO removed_at_sequence;
COMMENT ON COLUMN change_version.removed_at_sequence IS 'purpose: entry of the audit log about the last keys removed, so that processes forget them | basis: none | retention: forever | subject: none';

-- Asked with every batch of records and every change of keys.
CREATE INDEX person_apart ON person (person_id) WHERE objected_at IS NOT NULL OR status = 'restricted';
