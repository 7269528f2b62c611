"""Some of a thousand people are erased: not one row of anybody else changes, in any table that the schema has."""

import random
from pathlib import Path

from luntrex_proxy.store import erasing
from luntrex_proxy.store.database import Pool
from tests.store import crowd
from tests.store.test_erasing import NOW

PEOPLE, ERASED = 1_000, 25


async def test_of_a_thousand_people_nobody_else_loses_a_row(database: Pool, tmp_path: Path) -> None:
    """In random order, each with rows in every table that leads to somebody; sums stay, no join finds them."""
    await crowd.fill(database, PEOPLE)
    people = [row[0] for row in await database.fetch("SELECT person_id FROM crowd.c WHERE n > 100 ORDER BY n")]
    erased = random.Random(11).sample(people, ERASED)
    rest, words = await crowd.others(database, erased)
    before, totals = await crowd.texts(database), await database.fetch(crowd.TOTALS)
    theirs = await database.fetch(
        "SELECT request_id FROM usage u JOIN crowd.c ON u.key_id IN (c.key_id, c.own_key_id) WHERE person_id = ANY($1)",
        erased,
    )
    assert len(theirs) >= ERASED * 8
    for name in await crowd.naming(database):
        assert any(word in before[name] for word in words), f"the search finds nobody in {name}"
    async with database.acquire() as connection:
        kept = await rest.look(connection)
        for person in erased:
            await erasing.erase_person(database, tmp_path, person, NOW, 2192)
        found = await rest.look(connection)
    assert {name: said for name, rest_ in kept.items() if (said := rest_.lost_to(found[name]))} == {}
    assert await database.fetch(crowd.TOTALS) == totals
    async with database.acquire() as connection, connection.transaction():  # a loss would be seen
        await connection.execute("DELETE FROM totp WHERE person_id = (SELECT person_id FROM crowd.c WHERE n = 1)")
        assert kept["totp"].lost_to((await rest.look(connection))["totp"]).startswith("1 rows lost")
    after = await crowd.texts(database)
    left = {name: word for name, text in after.items() for word in words if word in text and name != "audit_entry"}
    assert left == {}
    unlinked = {str(row[0]) for row in await database.fetch("SELECT request_id FROM usage WHERE key_id = 'erased'")}
    assert len(unlinked) == len(theirs)
    gone = {str(row["request_id"]) for row in theirs}
    for name, text in after.items():
        assert not gone & crowd.uuids_in(text), f"{name} has the id of a request of who was erased"
        assert name == "usage" or not unlinked & crowd.uuids_in(text), f"{name} joins with usage that was unlinked"
