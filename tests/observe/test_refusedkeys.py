"""The security log: few lines whatever comes, and counts that add up to every refusal."""

from collections.abc import Callable
from typing import Any

import pytest

from luntrex_proxy.observe import refusedkeys
from luntrex_proxy.observe.refusedkeys import RefusedKeys


def said(file: Any) -> list[tuple[str, str, int]]:
    """Network, code and count of each line."""
    lines = [line for line in file.lines() if line["event"] == "luntrex.keys_refused"]
    assert all(line["level"] == "warning" for line in lines)
    return [(line["network"], line["code"], line["count"]) for line in lines]


def test_one_line_per_network_and_reason(log_file: Callable[..., Any]) -> None:
    """Refusals of a round are counted together, the most frequent first."""
    file, log = log_file(), RefusedKeys()
    for network, code, count in (("a/24", "x", 3), ("b/24", "x", 500), ("a/24", "y", 2)):
        for _ in range(count):
            log.note(network, code)
    log.flush()
    log.flush()
    assert said(file) == [("b/24", "x", 500), ("a/24", "x", 3), ("a/24", "y", 2)]


def test_a_flood_from_everywhere_is_few_lines_and_exact(log_file: Callable[..., Any]) -> None:
    """100,000 refusals from 5,000 networks: at most 20 networks by name, the rest in one line per reason, sum exact."""
    file, log = log_file(), RefusedKeys()
    for n in range(100_000):
        log.note(f"net{n % 5000}", "bad" if n % 2 else "worse")
    assert len(log._counts) <= 1002
    log.flush(last=True)
    lines = said(file)
    assert len(lines) <= 22
    assert sum(count for _, _, count in lines) == 100_000
    assert sum(count for _, code, count in lines if code == "bad") == 50_000


def test_rounds_are_ten_seconds_apart(log_file: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes between two rounds waits for the second; the last one waits for nothing."""
    now = 100.0
    monkeypatch.setattr(refusedkeys.time, "monotonic", lambda: now)
    file, log = log_file(), RefusedKeys()
    log.note("a", "x")
    log.flush()
    log.note("a", "x")
    now = 109.9
    log.flush()
    log.note("a", "x")
    now = 110.0
    log.flush()
    log.note("b", "x")
    log.flush(last=True)
    assert said(file) == [("a", "x", 1), ("a", "x", 2), ("b", "x", 1)]
