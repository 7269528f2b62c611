"""One upstream answer as it arrives: gathered until a decision can be made, then pushed to the client read by read.

An answer is never assembled: at most `GATHER_BYTES` of a JSON reply or the first events of a stream are held. The last
piece (the terminal event, or the end of a JSON body) stays in `last` until the request is on record.
"""

import asyncio

from luntrex_proxy.core.call import Route
from luntrex_proxy.core.outcome import Tokens
from luntrex_proxy.core.wire.jsonbody import JsonReader, Verdict
from luntrex_proxy.core.wire.sse import End, StreamReader
from luntrex_proxy.gateway.http.answerhead import CHUNKED, AnswerHead
from luntrex_proxy.gateway.http.exchange import Exchange
from luntrex_proxy.gateway.http.running import Signal
from luntrex_proxy.gateway.http.ticker import NEVER
from luntrex_proxy.gateway.http.upstream import UpstreamConnection

GATHER_BYTES = 65536
_NO_HEAD = AnswerHead(0, {}, CHUNKED, keep_alive=False)
FIRST_EVENT_GRACE_S = 1.0  # a head that came alone waits this long for its first event before the client sees it


class Answer(Signal):
    """Sink of an upstream connection; `decided` and `finished` are awaited by the pipeline, nothing else waits."""

    __slots__ = (
        "_connection", "_exchange", "_grace", "_parts", "_ready", "_request", "_sent_at",
        "complete", "done", "failure", "gathered_bytes", "head", "is_sent", "is_stream", "json", "last",
        "reader", "route", "status", "usage", "verdict",
    )  # fmt: skip

    def __init__(
        self, connection: UpstreamConnection, request: bytes, reader: StreamReader | None, route: Route
    ) -> None:
        self.fired, self.waiting = False, None  # as in Signal, without the call
        self._request = request
        self.is_sent = False  # the request was
        self._connection = connection
        self._exchange: Exchange | None = None  # set while pushing
        self._grace: asyncio.TimerHandle | None = None
        self._parts: list[bytes] = []
        self._ready = False
        self._sent_at = NEVER  # when the upstream last said something that the client was told
        self.route = route
        self.reader = reader  # None when the client asked for no stream
        self.json: JsonReader | None = None  # only for an answer too large to be gathered
        self.is_stream = False
        self.head = _NO_HEAD
        self.status = 0  # as in the head, or what the body of an error with status 200 states
        self.verdict: Verdict = ""  # on a JSON answer that came whole
        self.gathered_bytes = 0
        self.done = False  # nothing more will come
        self.complete = False  # the upstream's message or stream ended as it should
        self.failure = ""  # refusal code of what went wrong
        self.last = b""
        self.usage: Tokens | None = None  # the upstream's own numbers, for what is not a stream

    # What the pipeline awaits.

    def decided(self) -> Signal:
        """Until enough is here to decide what to send: a whole small body, a first event, or a failure."""
        self.fired = self._ready
        return self

    def finished(self) -> Signal:
        """Until everything but `last` has been pushed."""
        self.fired = self.done
        return self

    # What the ledger tells.

    def begin(self) -> None:
        """Send the request, which is on record now; unless nobody waits any more."""
        request, self._request = self._request, b""
        if self.done:
            return
        connection = self._connection
        if connection.usable():
            self.is_sent = True
            connection.send(request, self, self.reader is None)
        else:
            self.failed("upstream_closed")

    def refuse(self) -> None:
        """The disk refused the record: nothing is sent."""
        if not self.done:
            self._connection.unused()
            self.failed("ledger_full")

    # What the pipeline decides.

    @property
    def code(self) -> str:
        """The refusal code of what went wrong so far, else ok."""
        return self.failure or "ok"

    @property
    def closed_unsent(self) -> bool:
        """Whether the upstream had closed the connection before the request could be sent."""
        return self.failure == "upstream_closed" and not self.is_sent

    # What the meter asks.

    def is_refusal(self) -> bool:
        """Whether the upstream itself says that it did nothing, in spite of its status 200."""
        reader = self.reader
        if reader is None or not self.is_stream:
            return self.verdict == "upstream_error"
        return reader.failed and not reader.events

    def is_nothing(self) -> bool:
        """Whether what the upstream said is no answer of a model: it closed without a word, or sent other things."""
        if self.status:
            return not (self.is_stream or self.head.is_json)
        return self.failure not in ("", "upstream_timeout")

    def silent_s(self) -> float:
        """How long the upstream had said nothing when it was left; 0 when the end was its own."""
        return 0.0 if self.failure or self.complete else self._connection.silent_s

    def peek(self) -> bytes:
        """What has come so far, left where it is."""
        if len(self._parts) != 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0]

    def gathered(self) -> bytes:
        """What has come so far; taken out, so that it is held once."""
        parts = self._parts
        self._parts = []
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def push_to(self, exchange: Exchange) -> None:
        """From now on pieces go straight to the client, as fast as it reads."""
        if self.done:
            return  # the connection may already serve another request, which this client must not slow down
        self._exchange = exchange
        exchange.on_pause = self._pause
        if self.is_stream:
            self._sent_at = self._connection.heard_at
            exchange.keep_alive(self._silent_since)
        if exchange.client_paused:
            self._pause(True)

    def _pause(self, paused: bool) -> None:
        self._connection.pause(paused)
        if not paused:  # the client has only now had what was sent to it
            self._sent_at = self._connection.heard_at

    def _silent_since(self) -> float:
        """When the client last had something; NEVER inside a very large event, where no comment may stand.

        An event that drips in keeps the upstream from being silent, but not the client from hearing nothing.
        """
        if self.reader is None or self.reader.mid_event or self._connection.deadline == NEVER:
            return NEVER
        return self._sent_at

    def abandon(self) -> None:
        """Nobody wants the rest: close the upstream connection now. Does nothing to an answer that has ended."""
        self._exchange = None
        if not self.done:
            self._finish()
            if self.is_sent:
                self._connection.abandon()
            else:
                self._connection.unused()

    # AnswerSink

    def arrived_whole(self, head: AnswerHead, body: bytes) -> None:
        """The usual answer that is no stream: all of it in one read."""
        self.head = head
        self.status = head.status
        self._parts.append(body)
        self.gathered_bytes = len(body)
        self.complete = self.done = self._ready = True
        self.fire()

    def head_arrived(self, head: AnswerHead) -> None:
        """Remember the head; a stream's head waits a moment for its first event, so that they go out together."""
        self.head = head
        self.status = head.status
        if self.reader is not None and head.status == 200 and head.is_stream:
            self.is_stream = True
            self._grace = asyncio.get_running_loop().call_later(FIRST_EVENT_GRACE_S, self._decide)

    def body_arrived(self, data: bytes, chunk: bytes = b"") -> None:
        """Push, or gather until a decision can be made."""
        reader = self.reader
        if reader is None or not self.is_stream:
            self._plain_arrived(data)
            return
        out = reader.feed(data)
        exchange = self._exchange
        if out is data and chunk and exchange is not None:  # the usual event, which is no end
            self._sent_at = self._connection.heard_at
            exchange.send_chunk(chunk, len(out))
            return
        if out:
            if exchange is None:
                self._gather(out)
            else:
                self._sent_at = self._connection.heard_at
                exchange.send(out)
        if reader.ended:
            self.last = reader.held
            self.complete = not reader.failed
            if reader.failed:
                self.failure = "upstream_error"
            self._connection.detach()
            self._finish()
        elif not self._ready and reader.events:  # comments alone say nothing yet of what the answer will be
            self._decide()

    def _gather(self, data: bytes) -> None:
        self._parts.append(data)
        self.gathered_bytes += len(data)
        if self.gathered_bytes > GATHER_BYTES and not self._ready:
            self._decide()

    def _plain_arrived(self, data: bytes) -> None:
        if self._exchange is None:
            self._gather(data)
            return
        if self.json is None:
            self.json = JsonReader(self.route)
        self.json.feed(data)
        if self.last:
            self._exchange.send(self.last)
        self.last = data

    def ended(self) -> None:
        """The upstream's message is complete; a stream must also have said so in its own grammar."""
        if self.done:
            return
        if self.is_stream and self.reader is not None:
            self.complete = self.reader.finish() is End.COMPLETE
            self.last = self.reader.held
            self.failure = "" if self.complete else "upstream_cut"
        else:
            self.complete = True
        self._finish()

    def failed(self, code: str) -> None:
        """The upstream broke off."""
        if not self.done:
            self.failure = code
            self._finish()

    def _decide(self) -> None:
        self._ready = True
        if self._grace is not None:
            self._grace.cancel()
            self._grace = None
        self.fire()

    def _finish(self) -> None:
        self.done = True
        if self._exchange is not None:
            self._exchange.on_pause = self._exchange.heard_at = None  # the connection may serve another request already
        self._decide()
