"""A table that nobody wrote code for. No tests here."""

_SAYS = "purpose: x | basis: contract | retention: {} | subject: person_id"


def note(retention: str) -> str:
    """SQL that makes it, of this class."""
    says = _SAYS.format(retention)
    return (
        "CREATE TABLE note (person_id uuid NOT NULL, text text NOT NULL,"
        " created_at timestamptz NOT NULL DEFAULT now());"
        f"COMMENT ON TABLE note IS '{says}'; COMMENT ON COLUMN note.person_id IS '{says}';"
        f"COMMENT ON COLUMN note.text IS '{says}'; COMMENT ON COLUMN note.created_at IS '{says}';"
    )


NOTE = note("account")
