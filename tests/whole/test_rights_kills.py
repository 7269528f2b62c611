"""kill -9 during an erasure, an export, and while notices go out; `python -m tests.long.rights_kills` does it often."""

import random

from tests.upstreams.loop_thread import LoopThread
from tests.whole.rightskilling import rounds

ROWS = 6_000


def test_what_was_begun_is_ended_and_nothing_is_half_done(servers: LoopThread) -> None:
    """What holds after each: tests/whole/rightskilling.py."""
    with rounds(servers, random.Random(7), in_start=0) as killed:
        killed.erase(ROWS, window_s=0.3)
        person = killed.someone(ROWS)
        killed.export(person, ROWS, 1)  # at its first bytes
        killed.whole(person, ROWS)
        killed.people(10)
        killed.incident(kills_max=1, window_s=1.0)
        found = killed.end()
    assert found.complaints == []
    assert {"erasure", "export", "notices"} <= found.kills.keys()
    assert found.counts["notices sent"] >= 10
