"""The SSE scanner: bytes in any cut go in, whole events come out, and the end of the stream is known exactly.

    feed(data)     the whole events that may go to the client now; a started one is kept back
    usage          the upstream's own numbers, so far
    ended, held    the terminal event was seen; its bytes wait here until the request is on record
    finish()       after a clean end of the body: did the stream end as its grammar says?

Here are the events; what they mean is in `chatstream.py` and `namedstreams.py`. Each event is looked at once.
"""

import enum
import re
from typing import ClassVar

from luntrex_proxy.core.outcome import Tokens
from luntrex_proxy.core.wire.jsonbody import TAIL_BYTES

EVENT_LIMIT_BYTES = 256 * 1024  # a larger event streams through instead of being held whole

_BOM = b"\xef\xbb\xbf"
# Two line ends in a row. A lone CR counts as the second only if no LF can follow it: CRLF may have been cut in two.
_BLANK_LINE = re.compile(rb"\n(?:\n|\r(?:\n|(?=[^\n])))|\r\r\n?")
_BLANKS = re.compile(rb"[\r\n]+")
_LINE_BREAKS = (10, 13)
_KIND = re.compile(rb'\A\s*event:[ ]*([^\r\n]*)|"type"\s*:\s*"([^"]*)"')
_KIND_WITHIN_BYTES = 1024


class End(enum.Enum):
    """How a stream's body ended."""

    COMPLETE = "complete"
    CUT = "cut"


class StreamReader:
    """One stream, split into events. The grammars in `chatstream.py` and `namedstreams.py` say what an event means."""

    __slots__ = (
        "_kind", "_plain", "_rest", "ended", "events", "failed", "held", "mid_event", "service", "text_bytes",
        "usage", "usage_partial",
    )  # fmt: skip

    _DULL: ClassVar[frozenset[bytes]] = frozenset()  # first lines of the commonest events
    _SAYING: ClassVar[bytes] = b"delta"  # how the kinds of events end that hold what the model says

    def __init__(self) -> None:
        self._plain = True  # live, at an event boundary, nothing held
        self._rest = b""  # the start of an event whose end has not come
        self._kind = b""  # name or type of the very large event that is streaming through
        self.usage: Tokens | None = None
        self.service = ""  # tier with prices of its own that an event says it came at
        self.usage_partial = False  # they leave input or output out, or the last of them are nonsense
        self.events = 0  # events with data that were let go; the terminal one is not counted
        self.text_bytes = 0  # of what the model says in them, about: the padding around it is not counted
        self.ended = False
        self.held = b""
        self.failed = False  # the upstream itself reported an error
        self.mid_event = False  # part of a very large event was let go: nothing may follow it but its own rest

    def feed(self, data: bytes) -> bytes:
        """The bytes of whole events that may go to the client now."""
        # The usual read is exactly one event of two lines with a name that says nothing: no loop, no decoding.
        line = data.find(10)
        if (
            data[:line] in self._DULL
            and self._plain
            and data.find(10, line + 1) + 2 == len(data)
            and data[-1] == 10
            and 13 not in data
        ):
            self.events += 1
            self.text_bytes += self._text_bytes(data)
            return data
        return self._split(data)

    def finish(self) -> End:
        """The body is over, and its framing was whole: did the stream end as its grammar says?"""
        if not self.ended and not self.mid_event:
            self._finish_rest()
        return End.COMPLETE if self.ended else End.CUT

    # What a grammar says.

    def _take(self, event: bytes) -> bytes:
        """Note what one whole event says; return what the client gets of it now."""
        raise NotImplementedError

    def _take_large(self, kind: bytes, tail: bytes) -> bytes:
        """The same for the end of an event that was too large to be held; all before `tail` has gone."""
        raise NotImplementedError

    def _text_bytes(self, event: bytes) -> int:
        """Bytes of the model's words in one of the commonest events: counted between quotes, never decoded."""
        raise NotImplementedError

    def _finish_rest(self) -> None:
        """End the stream if it is complete without a terminal event."""

    # Common to all.

    def _let_go(self, event: bytes) -> bytes:
        self.events += 1
        return event

    def _end(self, event: bytes) -> bytes:
        self.ended = True
        self._plain = False
        self.held = event
        return b""

    def _split(self, data: bytes) -> bytes:
        if self.ended:
            return b""
        if self.mid_event:
            return self._stream_through(data)
        known = len(self._rest)
        buffer = self._rest + data if known else data
        find_end = _find_end if 13 in buffer else _find_end_lf
        out: list[bytes] = []
        start = 0
        search = max(0, known - 3)  # a blank line that was cut in two begins at most three bytes back
        while end := find_end(buffer, search):
            if buffer[start] in _LINE_BREAKS and (
                blanks := _BLANKS.match(buffer, start)
            ):  # they belong to no event, and pass together, however many
                out.append(blanks[0])
                start = search = blanks.end()
                continue
            out.append(self._take(buffer[start:end]))
            if self.ended:
                return b"".join(out)
            start = search = end
        rest = buffer[start:]
        if not rest.strip(b"\r\n"):  # no event has begun; further blank lines belong to nothing and pass
            out.append(rest)
            rest = b""
        self._rest = rest
        self._plain = not rest
        if len(rest) > EVENT_LIMIT_BYTES:
            self.mid_event = True
            kind = _KIND.search(rest, 0, _KIND_WITHIN_BYTES)
            self._kind = (kind[1] or kind[2] or b"") if kind else b""
            out.append(self._stream_through(b""))
        return b"".join(out)

    def _stream_through(self, data: bytes) -> bytes:
        """Pass a very large event on, except its last 64 KiB until its end is known: it may be the terminal one."""
        buffer = self._rest + data
        find_end = _find_end if 13 in buffer else _find_end_lf
        end = find_end(buffer, max(0, len(self._rest) - 3))
        if not end:
            cut = max(0, len(buffer) - TAIL_BYTES)
            self._rest = buffer[cut:]
            self._count_large(cut)
            return buffer[:cut]
        self.mid_event = False
        self._rest = b""
        self._count_large(end)
        out = self._take_large(self._kind, buffer[:end])
        return out if self.ended else out + self._split(buffer[end:])

    def _count_large(self, size: int) -> None:
        if self._kind.endswith(self._SAYING):
            self.text_bytes += size


def _find_end_lf(buffer: bytes, search: int) -> int:
    at = buffer.find(b"\n\n", search)
    return at + 2 if at >= 0 else 0


def _find_end(buffer: bytes, search: int) -> int:
    blank = _BLANK_LINE.search(buffer, search)
    return blank.end() if blank else 0


def parse_event(event: bytes) -> tuple[bytes, bytes | None]:
    """Name and data of an event; the data of several lines is joined, None when there is none."""
    name = b""
    data: bytes | None = None
    for line in event.removeprefix(_BOM).splitlines():
        if line.startswith(b"data:"):
            data = line[5:] if data is None else data + b"\n" + line[5:]
        elif line.startswith(b"event:"):
            name = line[6:].strip()
    return name, data
