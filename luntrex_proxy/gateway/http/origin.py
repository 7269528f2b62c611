"""One upstream's pool of connections. Counts are kept, never re-scanned; how a connection is made is in `dial.py`."""

import asyncio
import random

from luntrex_proxy.gateway.http.answerhead import RepeatedAnswer
from luntrex_proxy.gateway.http.dial import Dialer
from luntrex_proxy.gateway.http.ticker import NEVER, Ticker
from luntrex_proxy.gateway.http.upstream import UpstreamConnection

_AGE_SPREAD = 0.1  # connections made together must not have to be made anew together


class OriginFullError(Exception):
    """The upstream has as many connections as it may have."""


class Origin:
    """The connections to one upstream: pooled, counted, bounded, renewed when they are old."""

    __slots__ = (
        "_closed", "_connecting", "_dialer", "_idle", "_max_age_s", "_ticker", "first_byte_s", "idle_s", "keep_alive_s",
        "max_open", "open", "usual_answer", "usual_stream",
    )  # fmt: skip

    def __init__(
        self,
        dialer: Dialer,
        ticker: Ticker,
        *,
        first_byte_s: float = 900,
        idle_s: float = 300,
        keep_alive_s: float = 15,
        max_age_s: float = 3600,
        max_open: int = 2000,
    ) -> None:
        self._dialer = dialer
        self._ticker = ticker
        # As floats: for every event one is added to the time, which takes three times as long with an int.
        self.first_byte_s = float(first_byte_s)
        self.idle_s = float(idle_s)
        self.keep_alive_s = float(keep_alive_s)
        self.max_open = max_open
        self.open = 0
        self.usual_answer: RepeatedAnswer | None = None  # how its last one began
        self.usual_stream: RepeatedAnswer | None = None  # and the last one to a request for a stream
        self._max_age_s = max_age_s
        self._connecting = 0
        self._idle: dict[UpstreamConnection, None] = {}  # last in, first out: the warmest is used again
        self._closed = False

    @property
    def busy(self) -> int:
        """Requests under way: a connection that is not idle serves one, or is being made for one."""
        return self.open + self._connecting - len(self._idle)

    @property
    def now(self) -> float:
        """The ticker's time, exact enough for health and retries."""
        return self._ticker.now

    def take(self) -> UpstreamConnection | None:
        """A pooled connection that is young and, as far as the loop knows, alive; or None."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.renew_at < self._ticker.now:
                connection.abandon()  # old: DNS or a load balancer may have moved on
            elif connection.usable():
                connection.deadline = NEVER  # idle no more, though what is to be sent may have to wait a moment
                return connection
        return None

    def connect(self) -> "asyncio.Task[UpstreamConnection]":
        """A new connection, counted from now on. Raises OriginFullError at once, OSError from the task."""
        if self.open + self._connecting >= self.max_open:
            raise OriginFullError
        self._connecting += 1  # at the decision, so that a burst can neither pass the bound nor look idle
        made: list[UpstreamConnection] = []
        task = asyncio.get_running_loop().create_task(self._connect(made))
        task.add_done_callback(lambda _: self._connected(made))
        return task

    async def _connect(self, made: list[UpstreamConnection]) -> UpstreamConnection:
        def make() -> UpstreamConnection:
            made.append(UpstreamConnection(self, self._ticker))
            return made[-1]

        try:
            connection = await self._dialer.connect(make)
        except BaseException:
            for one in made:  # uvloop does not tell the protocol of an attempt that is cancelled at the last moment
                one.connection_lost(None)
            raise
        spread = 1 - _AGE_SPREAD * random.random()  # noqa: S311 -- spreads load, guards nothing
        connection.renew_at = self._ticker.now + self._max_age_s * spread
        return connection

    def _connected(self, made: list[UpstreamConnection]) -> None:
        self._connecting += sum(connection.opened for connection in made) - 1

    def opened(self) -> None:
        """A connection is made. Whoever waits for it hears some turns later, and it must not count twice until then."""
        self.open += 1
        self._connecting -= 1

    def give_back(self, connection: UpstreamConnection) -> None:
        """Keep a connection whose answer ended cleanly."""
        if self._closed:
            connection.abandon()
        else:
            self._idle[connection] = None

    def lost(self, connection: UpstreamConnection) -> None:
        """A connection is closed, idle or not."""
        self.open -= 1
        self._idle.pop(connection, None)

    def close(self) -> None:
        """Close the idle connections; busy ones end with their answers."""
        self._closed = True
        for connection in list(self._idle):
            connection.abandon()
        self._idle.clear()
