"""Shared by the tests of the eyes: logging set up on a file, and put back afterwards."""

import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from luntrex_proxy.core.outcome import Ending, Outcome, Tokens, UsageSource
from luntrex_proxy.observe import logs


class LogFile:
    """An Output that writes to a file, and what was written."""

    def __init__(self, path: Path, *, strict: bool, console: bool, level: str) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.output = logs.configure(level=level, strict=strict, descriptor=self._descriptor, console=console)

    def text(self) -> str:
        """All that was logged; ends the logging."""
        self.output.writer.close(5)
        return self._path.read_text()

    def lines(self) -> list[dict[str, Any]]:
        """The same as objects."""
        return [json.loads(line) for line in self.text().splitlines()]

    def close(self) -> None:
        self.output.writer.close(5)
        os.close(self._descriptor)


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Callable[..., LogFile]]:
    """Makes LogFiles, and restores every global that `configure` and the guards set."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, logging.raiseExceptions)
    hooks = (sys.excepthook, threading.excepthook, sys.unraisablehook)
    made: list[LogFile] = []

    def make(*, strict: bool = True, console: bool = False, level: str = "info") -> LogFile:
        made.append(LogFile(tmp_path / f"log{len(made)}", strict=strict, console=console, level=level))
        return made[-1]

    yield make
    for one in made:
        one.close()
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level, logging.raiseExceptions = before
    structlog.reset_defaults()


@pytest.fixture
def outcome() -> Callable[..., Outcome]:
    """Makes outcomes; keywords replace the usual values."""

    def make(**changes: Any) -> Outcome:
        values: dict[str, Any] = {
            "request_id": "0199c0de-0000-7000-8000-000000000001",
            "started_us": 1_760_000_000_250_000,
            "account_id": 7,
            "key_id": "abcdefghijkl",
            "route": "chat.completions",
            "model": "mock-model",
            "upstream": "local",
            "status": 200,
            "code": "ok",
            "ending": Ending.COMPLETE,
            "streamed": True,
            "usage_source": UsageSource.REPORTED,
            **Tokens(input=100, cached_input=20, output=50, reasoning=10).columns(),
            "cost_pico": 12_345,
            "price_version": "p1",
            "request_bytes": 500,
            "response_bytes": 2_000,
            "events": 40,
            "attempts": 1,
            "duration_us": 800_000,
            "first_byte_us": 12_345,
            "overhead_us": 300,
        }
        return Outcome(**(values | changes))

    return make


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop of its own, so that handlers set on it vanish with it."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()
