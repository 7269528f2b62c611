"""The one log line per request. Its fields are those of `core.outcome.Outcome` and nothing else."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec.structs import asdict, astuple

from luntrex_proxy.core.outcome import Outcome
from luntrex_proxy.observe.logs import Output
from luntrex_proxy.observe.writer import Burst

# What a line holds besides `event` and `time` (the moment the request ended).
REQUEST_FIELDS: tuple[str, ...] = Outcome.__struct_fields__
# A struct and not a dict: no other field can get in, and msgspec writes it in a third of the time.
_Line = msgspec.defstruct("_Line", [("event", str), ("time", str), *((name, Any) for name in REQUEST_FIELDS)], gc=False)
_encode_lines = msgspec.json.Encoder().encode_lines


class RequestLog:
    """Writes the outcomes it takes as lines; call `tell_left_out` from a coarse timer and at the end."""

    def __init__(self, output: Output, *, anonymous_per_second: int = 10) -> None:
        self.dropped = 0  # lines that stderr's reader was too slow for
        self._output = output
        # Anyone can send requests without a key; the disk that holds the journal must not be theirs to fill.
        self._anonymous = Burst(anonymous_per_second)
        self._untold_drops = 0
        self._told_second = 0

    def take(self, outcomes: Sequence[Outcome]) -> None:
        """Hand these to the writer, but for those of strangers that are too many."""
        # The outcome's own time is the clock: when they are handed on says nothing of it.
        admit = self._anonymous.admit
        shown = [each for each in outcomes if each.account_id or admit(each.started_us // 1_000_000)]
        if shown and not self._output.writer.offer(self._render(_lines(shown))):
            self.dropped += len(shown)
            self._untold_drops += len(shown)

    def tell_left_out(self, *, last: bool = False) -> None:
        """Say once a second (or `last`) how many lines were left out."""
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
