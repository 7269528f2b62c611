"""How fast answers began, from counts: within five percent of what it was, and only of answers that were streamed."""

from datetime import UTC, datetime, timedelta

from luntrex_proxy.store.database import Pool
from luntrex_proxy.store.firstbytes import percentiles_ms
from luntrex_proxy.store.frames import encode_record
from luntrex_proxy.store.partitions import ensure_partitions
from luntrex_proxy.store.usage_rows import insert_rows
from tests.store.records import NOON_US, outcome

NOON = datetime.fromtimestamp(NOON_US / 1e6, UTC)


async def test_percentiles_of_what_was_stored(database: Pool) -> None:
    """Stored twice it counts once; other accounts, errors and what was not streamed do not."""
    await ensure_partitions(database, NOON.date(), 2)
    records = [outcome(n, first_byte_us=n * 1_000) for n in range(1, 101)]
    records += [
        outcome(201, first_byte_us=9 * 10**6, status=502), outcome(202, first_byte_us=9 * 10**6, streamed=False),
        outcome(203, first_byte_us=9 * 10**6, account_id=2), outcome(204, first_byte_us=0),
    ]  # fmt: skip
    for _ in range(2):
        async with database.acquire() as connection, connection.transaction():
            await insert_rows(connection, [encode_record(record) for record in records])
    span = NOON - timedelta(hours=1), NOON + timedelta(hours=1)
    found = await percentiles_ms(database, 1, *span, 50, 95, 100)
    assert found is not None
    for read, was in zip(found, (50, 95, 100), strict=True):
        assert abs(read - was) < 0.05 * was
    assert await percentiles_ms(database, 1, span[1], span[1] + timedelta(hours=9), 50) is None
    assert await database.fetchval("SELECT sum(answers) FROM first_byte WHERE account_id = 1") == 100
