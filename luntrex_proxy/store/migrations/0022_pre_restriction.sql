-- That a person's data may only be stored is a fact of its own: who is suspended can be restricted or not.
ALTER TABLE person ADD COLUMN restricted_at timestamptz;
COMMENT ON COLUMN person.restricted_at IS 'purpose: since when the person''s data may only be stored | basis: legal_obligation | retention: account | subject: self';
UPDATE person p SET restricted_at = now() WHERE status = 'restricted' OR status = 'suspended' AND (
    SELECT outcome FROM rights_request
    WHERE person_id = p.person_id AND kind = 'restrict' AND outcome IN ('restricted', 'lifted')
    ORDER BY closed_at DESC LIMIT 1) = 'restricted';
-- Asked with every change of keys and accounts.
CREATE INDEX person_restricted ON person (person_id) WHERE restricted_at IS NOT NULL;

-- The release before this one writes the status alone, in which suspended hides restricted. While its processes run:
CREATE FUNCTION person_restriction_follows_status() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF NEW.status = 'restricted' THEN NEW.restricted_at := coalesce(NEW.restricted_at, now());
    ELSIF NEW.status = 'active' THEN NEW.restricted_at := NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER person_restriction_follows_status BEFORE UPDATE OF status ON person
    FOR EACH ROW EXECUTE FUNCTION person_restriction_follows_status();
