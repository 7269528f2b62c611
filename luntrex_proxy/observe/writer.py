"""The way out to stderr: a writer that never makes its caller wait, and a limit on bursts of lines."""

import os
import queue
import select
import threading


class Writer:
    """Writes offered bytes to a descriptor from one thread: a reader of stderr that stops reading must not stop us."""

    def __init__(self, descriptor: int = 2, *, limit_bytes: int = 8 << 20) -> None:
        self._descriptor = descriptor
        self._limit_bytes = limit_bytes
        self._waiting_bytes = 0
        self._closed = False
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        # A daemon thread: one that is stuck in write() must not hold up the end of the process.
        self._thread = threading.Thread(target=self._run, name="luntrex-stderr", daemon=True)
        self._thread.start()

    def offer(self, data: bytes) -> bool:
        """Take `data` (whole lines) for writing; False when too much is waiting already and it was not taken."""
        with self._lock:
            if self._closed or self._waiting_bytes + len(data) > self._limit_bytes:
                return False
            self._waiting_bytes += len(data)
        self._queue.put(data)
        return True

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what is waiting, for at most `timeout_s`, and take nothing more."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (data := self._queue.get()) is not None:
            self._write(memoryview(data))
            with self._lock:
                self._waiting_bytes -= len(data)

    def _write(self, rest: memoryview) -> None:
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # someone who shares our stderr made it non-blocking
                poller = select.poll()
                poller.register(self._descriptor, select.POLLOUT)
                poller.poll(1000)
            except OSError:  # the reader is gone; there is nobody left to tell
                return


class Burst:
    """Lets through a number of lines per second and counts the rest in `held`."""

    def __init__(self, per_second: int) -> None:
        self.held = 0
        self._per_second = per_second
        self._second = -1
        self._used = 0

    def admit(self, second: int) -> bool:
        """Whether one more line may go out in `second` (of any clock); if not it is counted."""
        # Slightly older seconds do not open a new allowance: callers may come out of order. A clock set back does.
        if second > self._second or second < self._second - 60:
            self._second = second
            self._used = 0
        if self._used < self._per_second:
            self._used += 1
            return True
        self.held += 1
        return False
