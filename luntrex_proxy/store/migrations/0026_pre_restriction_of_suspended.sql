-- Of who is suspended, the release before 0022 says in the request alone that data may only be stored. While it runs:
CREATE FUNCTION person_restriction_follows_request() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    UPDATE person SET restricted_at = CASE WHEN NEW.outcome = 'restricted' THEN coalesce(restricted_at, now()) END
    WHERE person_id = NEW.person_id AND status = 'suspended';
    RETURN NULL;
END $$;
CREATE TRIGGER person_restriction_follows_request AFTER UPDATE OF outcome ON rights_request FOR EACH ROW
    WHEN (NEW.kind = 'restrict' AND NEW.outcome IN ('restricted', 'lifted'))
    EXECUTE FUNCTION person_restriction_follows_request();
