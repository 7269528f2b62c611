"""The search of `privacy-check` by itself; with a daemon: tests/whole/test_privacy_check.py."""

import base64
import zlib

from luntrex_proxy.core.canaries import Marks
from luntrex_proxy.privacycheck import searching
from luntrex_proxy.store.database import Pool


async def test_what_is_packed_into_bytes_is_found(database: Pool) -> None:
    """PostgreSQL shows bytes as hexadecimal digits: what they hold is searched as what a file holds."""
    said, planted, since = Marks("zq0123456789ab"), Marks("zp0123456789ab"), searching.now()
    canary = said("prompt")
    await database.execute("CREATE TABLE leak (data bytea)")
    for packed in (zlib.compress(canary.encode()), base64.b64encode(canary.encode()), canary.encode("utf-16-le")):
        await database.execute("TRUNCATE leak")
        await database.execute("INSERT INTO leak VALUES ($1)", bytes(3) + packed)
        places = [place async for place in searching.search_tables(database, said, planted, since)]
        assert [hit for place in places for hit in place.hits], packed
