"""The daemon with its Python calls counted: `python -m benchmarks.counted serve ...`, for `instructions.py`.

Counted is what is called for what sockets bring, from the first SIGUSR1 on: Python 3.11.2 crashes when the start is
looked at. With each it writes how often every function was called so far to the file named by `BENCH_CALLS`.
"""

import collections
import json
import os
import signal
import sys
from pathlib import Path
from types import CodeType, FrameType

from luntrex_proxy.cli import main

_BEGINNINGS = ("data_received", "flush")  # with what sockets bring, and with what was put off to the end of its turn


class _Count:
    """Hears of each call and each return."""

    def __init__(self) -> None:
        self.calls: collections.Counter[CodeType] = collections.Counter()
        self._outermost: FrameType | None = None

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:  # noqa: ARG002 -- as Python calls it
        if event == "call":
            if self._outermost is None and frame.f_code.co_name in _BEGINNINGS:
                self._outermost = frame
            if self._outermost is not None:
                self.calls[frame.f_code] += 1
        elif event == "return" and frame is self._outermost:
            self._outermost = None

    def tell(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- as a signal calls it
        """Write them to the file; count from now on."""
        sys.setprofile(self)
        told: collections.Counter[str] = collections.Counter()
        for code, count in list(self.calls.items()):  # a signal may come amid a read: then these calls count as well
            file = Path(code.co_filename)
            told[f"{file.parent.name}/{file.name}:{code.co_qualname}"] += count
        to = Path(os.environ["BENCH_CALLS"])
        to.with_suffix(".new").write_text(json.dumps(told))
        to.with_suffix(".new").rename(to)


if __name__ == "__main__":
    count = _Count()
    signal.signal(signal.SIGUSR1, count.tell)
    main()
