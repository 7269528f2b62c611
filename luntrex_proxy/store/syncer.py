"""The thread that makes what is written to a spool durable."""

import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from luntrex_proxy.store.segments import sync_directory

_COMMIT_WINDOW_S = 0.02


class _Present(NamedTuple):
    """The segment that is written to."""

    fd: int
    segment: int


class Syncer:
    """The thread that makes written bytes durable: all that came within one window with one fdatasync."""

    def __init__(self, directory: Path, on_failure: Callable[[int], None]) -> None:
        self.errors = 0
        self.dirty = False  # bytes came since the last sync began; `touch` need not be called again
        self.synced_segment = 0  # the last whose first write is on disk, with its name
        self._on_failure = on_failure
        self._failed = -1
        self._directory = directory
        self._names_changed = False
        self._retired: deque[int] = deque()
        self._present = _Present(-1, 0)
        self._stopping = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool-sync", daemon=True)
        self._thread.start()

    def begin(self, fd: int, segment: int) -> None:
        """The first bytes were written to a new segment."""
        self._names_changed = True  # before the thread can see the segment: its name is synced first
        self._present = _Present(fd, segment)
        self.touch()

    def touch(self) -> None:
        """Bytes were written."""
        self.dirty = True
        self._wake.set()

    def retire(self, fd: int) -> None:
        """No more bytes come to `fd`: sync and close it. Only the thread closes, so it never syncs a reused number."""
        self._present = _Present(-1, 0)
        self._retired.append(fd)
        self.touch()

    def stop(self) -> None:
        """Sync all and end the thread."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def _run(self) -> None:
        while self.dirty or not self._stopping:
            self._wake.wait()
            if not self._stopping:
                time.sleep(_COMMIT_WINDOW_S)
            self._wake.clear()
            self.dirty = False
            self._sync_all()

    def _sync_all(self) -> None:
        present = self._present
        named = not self._names_changed or self._sync_names(present.fd)
        while self._retired:
            fd = self._retired.popleft()
            self._sync(fd)
            if self._failed == fd:
                self._failed = -1
            if present.fd == fd:
                present = _Present(-1, 0)  # retired after the look at it
            with contextlib.suppress(OSError):
                os.close(fd)
        if present.fd >= 0 and self._sync(present.fd) and named:
            self.synced_segment = present.segment

    def _sync_names(self, fd: int) -> bool:
        self._names_changed = False
        try:
            sync_directory(self._directory)
        except OSError:
            self.errors += 1
            self._names_changed = True
            self._on_failure(fd)
            return False
        return True

    def _sync(self, fd: int) -> bool:
        if fd == self._failed:
            return False  # a second fdatasync would succeed without the bytes being there
        try:
            os.fdatasync(fd)
        except OSError:
            self.errors += 1
            self._failed = fd
            self._on_failure(fd)
            return False
        return True
