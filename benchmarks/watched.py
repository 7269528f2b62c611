"""The daemon with a watch on its event loop: `python -m benchmarks.watched serve ...`, for `outage.py`.

Appends a line per quarter of a second to the file named by `BENCH_STALLS`: the time on the monotonic clock, how late a
timer of a millisecond came at most, and how long the loop ran in one go at most, in milliseconds.
"""

import asyncio
import os
import time
from pathlib import Path

from benchmarks.drain import Stalls
from luntrex_proxy.cli import main
from luntrex_proxy.store.shipper import Shipper

WINDOW_S = 0.25


async def _tell(path: Path) -> None:
    stalls = Stalls()
    watching = asyncio.ensure_future(stalls.watch())
    with path.open("a", buffering=1) as lines:
        while not watching.done():
            await asyncio.sleep(WINDOW_S)
            lines.write(f"{time.monotonic()} {stalls.longest_s * 1e3} {stalls.busy_s * 1e3}\n")
            stalls.longest_s = stalls.busy_s = 0.0


class _Watched(Shipper):
    """Starts the watch together with the shipping."""

    def start(self) -> None:
        """As the daemon calls it, on its loop."""
        super().start()
        self.watching = asyncio.ensure_future(_tell(Path(os.environ["BENCH_STALLS"])))


if __name__ == "__main__":
    import luntrex_proxy.daemon

    luntrex_proxy.daemon.Shipper = _Watched  # type: ignore[misc]  # the same class, watched
    main()
