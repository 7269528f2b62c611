"""One line per request with exactly the documented fields; floods and slow readers are counted, not felt."""

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.observe.logs import Output
from luntrex_proxy.observe.requestlog import REQUEST_FIELDS, RequestLog
from luntrex_proxy.observe.writer import Writer

# The documented line. A new field of Outcome has to be entered here by hand, after asking whether it may be logged.
DOCUMENTED = [
    "request_id", "started_us", "account_id", "key_id", "route", "model", "upstream", "status", "code", "ending",
    "streamed", "usage_source", "input_tokens", "cached_input_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "input_audio_tokens", "output_tokens", "reasoning_tokens", "output_audio_tokens",
    "cost_pico", "price_version", "request_bytes", "response_bytes", "events", "attempts", "duration_us",
    "first_byte_us", "overhead_us", "trail",
]  # fmt: skip


def test_the_line_has_the_documented_fields_and_no_other(
    log_file: Callable[..., Any], outcome: Callable[..., Outcome]
) -> None:
    """Field by field: names, values, the event and the time at which the request ended."""
    assert list(REQUEST_FIELDS) == DOCUMENTED
    file = log_file()
    log = RequestLog(file.output)
    log.take([outcome(model='quote"and\nnewline')])
    (line,) = file.lines()
    assert list(line) == ["event", "time", *DOCUMENTED]
    assert line["event"] == "luntrex.request"
    assert datetime.fromisoformat(line["time"]) == datetime.fromtimestamp(1_760_000_001.05, UTC)
    assert (line["model"], line["ending"], line["usage_source"]) == ('quote"and\nnewline', "complete", "reported")
    assert (line["input_tokens"], line["cached_input_tokens"], line["output_tokens"]) == (100, 20, 50)
    assert (line["reasoning_tokens"], line["cost_pico"], line["overhead_us"]) == (10, 12_345, 300)


def test_requests_without_a_caller_are_limited_and_the_rest_counted(
    log_file: Callable[..., Any], outcome: Callable[..., Outcome]
) -> None:
    """Ten lines a second for account 0, one counting line; known callers are not limited by that."""
    file = log_file()
    log = RequestLog(file.output)
    for _ in range(25):
        log.take([outcome(account_id=0, key_id="", status=401, code="invalid_api_key")] * 20 + [outcome()] * 2)
    log.tell_left_out(last=True)
    log.tell_left_out(last=True)
    lines = file.lines()
    assert sum(line.get("account_id") == 0 for line in lines) == 10
    assert sum(line.get("account_id") == 7 for line in lines) == 50
    told = [line for line in lines if line["event"] == "luntrex.anonymous_requests_not_logged"]
    assert [line["count"] for line in told] == [490]


def test_lines_that_a_slow_reader_cannot_take_are_counted_exactly(outcome: Callable[..., Outcome]) -> None:
    """Written + dropped = requests, and the numbers told, one a second and one at the end, add up to those dropped."""
    read_end, write_end = os.pipe()
    writer = Writer(write_end, limit_bytes=400_000)
    log = RequestLog(Output(writer, console=False, strict=True))
    for number in range(10):
        log.take([outcome()] * 256)
        if number == 7:
            log._told_second = -1  # a second begins
            log.tell_left_out()
    assert 0 < log.dropped < 2_560
    os.set_blocking(read_end, True)
    received = b""
    while received.count(b'"luntrex.request"') < 2_560 - log.dropped:
        received += os.read(read_end, 1 << 20)
    log.tell_left_out(last=True)
    writer.close(5)
    os.close(write_end)
    while more := os.read(read_end, 1 << 20):
        received += more
    os.close(read_end)
    lines = [msgspec.json.decode(line) for line in received.splitlines()]
    counts = [line["count"] for line in lines if line["event"] == "luntrex.request_lines_dropped"]
    assert len(lines) - len(counts) + log.dropped == 2_560
    assert len(counts) > 1
    assert sum(counts) == log.dropped


@pytest.mark.parametrize("console", [False, True])
def test_on_a_terminal_empty_fields_are_left_out(
    console: bool, tmp_path: Path, log_file: Callable[..., Any], outcome: Callable[..., Outcome]
) -> None:
    """People read the terminal, programs read the JSON: only the first leaves zeros out."""
    file = log_file(console=console)
    log = RequestLog(file.output)
    log.take([outcome()])
    text = file.text()
    assert "mock-model" in text
    assert ("output_audio_tokens" in text) is not console
