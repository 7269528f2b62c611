"""Loop lag: a stall shows, and is forgotten after two windows."""

import asyncio
import time

from luntrex_proxy.observe.probes import LoopLag


async def test_a_stalled_loop_shows_and_is_forgotten() -> None:
    """Blocking the loop for 80 ms is seen as about that; later windows are calm again."""
    lag = LoopLag(asyncio.get_running_loop(), period_s=0.01, window_s=0.3)
    lag.start()
    await asyncio.sleep(0.03)
    time.sleep(0.08)
    await asyncio.sleep(0.02)
    assert 0.06 < lag.seconds() < 1
    worst = lag.seconds()
    await asyncio.sleep(0.9)
    assert lag.seconds() < worst
    lag.stop()
    lag.stop()
