"""The one log line per request: a sink of outcomes. Its fields are those of `core.outcome.Outcome` and nothing else."""

import time
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import asdict, astuple

from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.observe.logs import Output
from luntrex_proxy.observe.writer import Burst

# Rendered in less than a millisecond, so that a busy second is many short stalls and no long one.
_BATCH = 256
# What a line holds besides `event` and `time` (the moment the request ended).
REQUEST_FIELDS: tuple[str, ...] = Outcome.__struct_fields__
# A struct and not a dict: no other field can get in, and msgspec writes it in a third of the time.
_Line = msgspec.defstruct("_Line", [("event", str), ("time", str), *((name, Any) for name in REQUEST_FIELDS)])
_encode_lines = msgspec.json.Encoder().encode_lines


class RequestLog:
    """Sink that keeps outcomes in a list and writes them as lines; call `flush` from a coarse timer and at the end."""

    def __init__(self, output: Output, *, anonymous_per_second: int = 10) -> None:
        self.dropped = 0  # lines that stderr's reader was too slow for
        self._output = output
        self._pending: list[Outcome] = []
        # Anyone can send requests without a key; the disk that holds the journal must not be theirs to fill.
        self._anonymous = Burst(anonymous_per_second)
        self._untold_drops = 0
        self._told_second = 0

    def __call__(self, outcome: Outcome) -> None:
        # The outcome's own time is the clock: reading another one here would cost as much as the rest.
        if outcome.account_id == 0 and not self._anonymous.admit(outcome.started_us // 1_000_000):
            return
        self._pending.append(outcome)
        if len(self._pending) >= _BATCH:
            self.flush()

    def flush(self, *, last: bool = False) -> None:
        """Hand what is pending to the writer, and once a second (or `last`) how many lines were left out."""
        if self._pending:
            pending, self._pending = self._pending, []
            if not self._output.writer.offer(self._render(_lines(pending))):
                self.dropped += len(pending)
                self._untold_drops += len(pending)
        second = int(time.monotonic())
        if second != self._told_second or last:
            self._told_second = second
            if self._tell("luntrex.anonymous_requests_not_logged", self._anonymous.held):
                self._anonymous.held = 0
            if self._tell("luntrex.request_lines_dropped", self._untold_drops):
                self._untold_drops = 0

    def _tell(self, event: str, count: int) -> bool:
        line = {"event": event, "time": datetime.fromtimestamp(time.time(), UTC).isoformat(), "count": count}
        return count > 0 and self._output.writer.offer(self._output.encode(line))

    def _render(self, lines: list[msgspec.Struct]) -> bytes:
        if not self._output.console:
            return _encode_lines(lines)
        # At a terminal the zeros only hide the rest.
        shown = [{name: str(value) for name, value in asdict(line).items() if value not in (0, "")} for line in lines]
        return b"".join([self._output.encode(line) for line in shown])


def _lines(outcomes: list[Outcome]) -> list[msgspec.Struct]:
    lines = []
    known, words = -1, ""  # a second, and how it is written: most of a batch ended in the same one
    for outcome in outcomes:
        ended_us = outcome.started_us + outcome.duration_us
        second = ended_us // 1_000_000
        if second != known:
            known, words = second, datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        ended = f"{words}.{str(ended_us)[-6:]}Z"
        lines.append(_Line("luntrex.request", ended, *astuple(outcome)))
    return lines
