"""Whether the time of an answer tells an address that somebody has from one that nobody has. Run by hand:

    python -m tests.long.sign_in_timing [--pairs 2000]

Wrong passwords, requests for a reset and sign-ups, in pairs in random order: one with the address of a person, one with
an address that is nobody's, each used once and from a network of its own, so that nothing waits. bcrypt's cost is 4:
what differs beside it would show more than at 12. Printed is what tests/long/timing.py prints.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import aiohttp
from aiohttp import web
from rich.progress import track

from luntrex_proxy.console.application import add_console
from luntrex_proxy.control.quiet import QuietRunner
from luntrex_proxy.store.database import Pool, opened_pool
from luntrex_proxy.store.embedded import EmbeddedPostgres
from luntrex_proxy.store.migrate import migrate
from tests.long.timing import report
from tests.people import MAIL, PASSWORD, services_of

_AT_ONCE = 4  # answers wait for round moments; one after the other would take an hour
_BEHIND_PROXY = {"trusted_proxies": ["127.0.0.0/8"], "client_address": "x_forwarded_for"}
_ASKED = {
    "/sign-in": {"password": "some wrong password"},
    "/reset": {},
    "/sign-up": {"affirmed_16": "yes", "name": "Somebody"},
}


async def measure(
    client: aiohttp.ClientSession, url: str, path: str, numbers: Iterable[int], offset: int
) -> list[tuple[float, float]]:
    """(known, unknown) of each pair, in microseconds."""
    found = []
    for number in numbers:
        times = {}
        for is_known in random.sample((True, False), 2):
            each = 2 * (offset + number) + is_known
            address = f"{'known' if is_known else 'other'}{offset + number:06d}@example.org"
            headers = {
                "X-Forwarded-For": f"10.{each >> 8}.{each & 255}.1",
                "Sec-Fetch-Site": "same-origin",
            }
            form = {"address": address, **_ASKED[path]}
            started_ns = time.perf_counter_ns()
            async with client.post(url + path, data=form, headers=headers) as answer:
                await answer.read()
            times[is_known] = (time.perf_counter_ns() - started_ns) / 1000
            assert answer.status == (422 if path == "/sign-in" else 200), answer.status
        found.append((times[True], times[False]))
    return found


async def populate(pool: Pool, services_hash: tuple[str, bytes], people: int) -> None:
    """People with one password, as rows only."""
    await pool.execute(
        "INSERT INTO person (email, password_hash, password_pepper_fingerprint, affirmed_16_at)"
        " SELECT 'known' || to_char(n, 'FM000000') || '@example.org', $1, $2, now() FROM generate_series(0, $3) n",
        *services_hash,
        people,
    )
    await pool.execute("ANALYZE person")


async def run(dsn: str, directory: Path, pairs: int) -> None:
    async with opened_pool(dsn) as pool:
        await migrate(pool, post=True)
        services = services_of(pool, directory, gateway=_BEHIND_PROXY, **MAIL)
        await populate(pool, await services.passwords.hashed(PASSWORD), pairs * len(_ASKED))
        app = web.Application()
        add_console(app, services)
        runner = QuietRunner(app, shutdown_timeout_s=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as client:
            for number, path in enumerate(_ASKED):
                url, numbers = f"http://127.0.0.1:{site.port}", iter(track(range(pairs), path))
                parts = [measure(client, url, path, numbers, number * pairs) for _ in range(_AT_ONCE)]
                found = [pair for part in await asyncio.gather(*parts) for pair in part]
                print(path)
                report(found)
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lx-") as name:
        server = EmbeddedPostgres(Path(name))
        try:
            asyncio.run(run(server.start(), Path(name), options.pairs))
        finally:
            server.stop()


if __name__ == "__main__":
    main()
