"""schemathesis over the whole API, as long as one likes: `python -m tests.long.fuzz_api --max-examples 100 --seed 7`.

Twice: by a token and by a session. All options go to `schemathesis run`; the exit status is 1 if it found something.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from luntrex_proxy.store.database import close_pool, open_pool
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.migrate import migrate
from tests.console.conftest import running_api
from tests.console.fuzzing import PATIENT, fuzz


async def run(dsn: str, directory: Path) -> int:
    """Both runs, one after the other."""
    pool = await open_pool(dsn)
    await migrate(pool, post=True)
    worst = 0
    for by_session in (False, True):
        async with running_api(pool, directory, **PATIENT) as api:
            status, report = await fuzz(api, directory, *sys.argv[1:], by_session=by_session)
        print(report)
        worst = max(worst, status)
        await pool.execute("TRUNCATE account CASCADE")
    await close_pool(pool)
    return worst


def main() -> int:
    """A database of its own, gone at the end."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o711)
        server = EmbeddedPostgres(Path(place))
        dsn = server.start()
        try:
            return asyncio.run(run(dsn, Path(place)))
        finally:
            server.stop()


if __name__ == "__main__":
    sys.exit(main())
