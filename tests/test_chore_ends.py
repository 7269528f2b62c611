"""A loop beside the requests that ends by a fault of ours is missed by somebody: the log says it, quoting nothing."""

import asyncio

import structlog

from luntrex_proxy import daemon

WORDS = "canary-5c1d"


async def _fail() -> None:
    raise RuntimeError(WORDS)


async def test_the_end_of_a_loop_is_told() -> None:
    """Its class and our lines; one that is cancelled at the end of the process is as it should be."""
    with structlog.testing.capture_logs() as said:
        tasks = [asyncio.ensure_future(_fail()), asyncio.ensure_future(asyncio.sleep(60))]
        for task in tasks:
            task.add_done_callback(daemon._tell_its_end)
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)
    (line,) = said
    assert (line["event"], line["error"]) == ("luntrex.chore_ended", "RuntimeError")
    assert WORDS not in str(line)
