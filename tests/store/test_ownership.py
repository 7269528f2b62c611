"""Which rows are whose follows from the schema, and every table can be reached: one that cannot fails here."""

import pytest

from luntrex_proxy.store import ownership
from luntrex_proxy.store.aging import ELSEWHERE, timed
from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.errors import StoreError
from luntrex_proxy.store.ownership import Kind, Table
from tests.store.notes import NOTE


async def read(pool: Pool) -> dict[str, Table]:
    async with pool.acquire() as connection:
        return {table.name: table for table in await ownership.tables(connection)}


async def test_every_table_has_an_owner_and_an_age(database: Pool) -> None:
    """Whoever adds a table says whose rows are, and one that becomes old has a column that says when."""
    found = await read(database)
    for table in found.values():
        if table.subject != "none" and table.name not in ownership.WITHOUT_LINK:
            assert table.declared, f"{table.name} leads to nobody"
    assert [table.name for table in timed(list(found.values())) if table.age is None and not table.is_part] == []
    usage = {
        name for name, table in found.items() if table.retention in ("usage", "totals") and table.subject != "none"
    }
    # Usage is made anonymous, not deleted, when its subject is erased: erasure.py knows how for these three.
    # first_byte goes with its account: it says how fast answers began, and no sum is checked against it.
    assert {name for name in usage if found[name].subject == "account_id"} == ELSEWHERE & usage | {"first_byte"}
    assert found.keys() >= {"person", "session", "mail", "rights_request", "billing.invoice"}


async def test_links_are_told_from_mentions(database: Pool) -> None:
    """A row is about whom its comments name; others in it are mentioned."""
    found = await read(database)

    def said(table: str) -> tuple[dict[str, Kind | None], set[str]]:
        declared = {column.name: column.kind for column in found[table].declared}
        return declared, {column.name for column in found[table].links} - declared.keys()

    assert said("session") == ({"person_id": Kind.PERSON}, set())
    assert said("invitation") == ({"email": Kind.EMAIL}, {"account_id", "invited_by"})
    assert said("mail") == ({"person_id": Kind.PERSON}, {"address"})
    assert said("api_key")[0] == {"key_id": Kind.KEY, "account_id": Kind.ACCOUNT, "person_id": Kind.PERSON}
    assert said("usage")[0] == {"account_id": Kind.ACCOUNT, "key_id": Kind.KEY}
    names = list(found)
    assert names.index("membership") < names.index("person")
    assert names.index("one_time_link") < names.index("invitation")


async def test_a_new_table_needs_no_code(database: Pool) -> None:
    """It is found with its link and its age."""
    await database.execute(NOTE)
    table = (await read(database))["note"]
    assert [(column.name, column.kind) for column in table.declared] == [("person_id", Kind.PERSON)]
    assert table.age == "coalesce(created_at)"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("COMMENT ON COLUMN session.network IS 'purpose: x | basis: contract | retention: session | subject: network'",
         "The subject of the table session leads nowhere"),
        ("CREATE TABLE loose (n int); COMMENT ON TABLE loose IS"
         " 'purpose: x | basis: contract | retention: account | subject: self'",
         "The subject of the table loose leads nowhere"),
        ("COMMENT ON TABLE session IS NULL", "Nobody says why the table session is there"),
    ],
)  # fmt: skip
async def test_a_subject_that_leads_nowhere_stops_it(database: Pool, change: str, sentence: str) -> None:
    """So that nothing is forgotten when somebody is erased."""
    await database.execute(change)
    with pytest.raises(StoreError, match=sentence):
        await read(database)
