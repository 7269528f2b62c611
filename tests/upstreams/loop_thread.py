"""An event loop in a thread, so that one server serves sync tests, async tests and a daemon in another process."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Run coroutines in a loop of another thread and wait for their results."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="test-servers", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout_seconds: float = 20) -> T:
        """The result of a coroutine, waited for from outside the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout_seconds)

    def stop(self) -> None:
        """Cancel what still runs, stop the loop and join the thread."""
        self.run(_cancel_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
