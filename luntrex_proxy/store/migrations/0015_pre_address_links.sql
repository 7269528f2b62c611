-- A link that proves a new address of a person before it takes the place of the old one.
ALTER TABLE one_time_link ADD COLUMN email text CHECK (email = lower(email) AND email ~ '^[^@\s]{1,64}@[^@\s]{1,255}$');
ALTER TABLE one_time_link DROP CONSTRAINT one_time_link_kind_check;
ALTER TABLE one_time_link ADD CONSTRAINT one_time_link_kind_check
    CHECK (kind IN ('first', 'setup', 'reset', 'invitation', 'address'));
ALTER TABLE one_time_link ADD CONSTRAINT one_time_link_email_check1 CHECK ((kind = 'address') = (email IS NOT NULL));
COMMENT ON COLUMN one_time_link.email IS 'purpose: the address that the link proves, when it is a new one | basis: contract | retention: day | subject: person_id';
