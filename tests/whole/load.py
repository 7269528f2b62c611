"""Clients that ask without a pause and keep their own list of what was answered whole: a ledger is held to it."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tests.whole.daemon import Daemon
from tests.whole.raw import RawClient, Reply, post
from tests.whole.scene import chat_request

_PATIENCE_S = 4.0  # less than any fault lasts: a request that waited for the database would not be done by then
_END = b"data: [DONE]\n\n"


class Load:
    """Asks in a few threads inside a `with`; `completed` are request ids, `wrong` what was not a whole 200."""

    def __init__(
        self, daemon: Daemon, *, threads: int = 2, pause_s: float = 0.1, patience_s: float = _PATIENCE_S
    ) -> None:
        self.completed: list[str] = []
        self.wrong: list[str] = []
        self._daemon = daemon
        self._pause_s, self._patience_s = pause_s, patience_s
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(bool(n % 2),)) for n in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, streamed: bool) -> None:
        request = post(self._daemon, "/v1/chat/completions", chat_request(stream=streamed))
        while not self._over.is_set():
            started = time.monotonic()
            try:
                with RawClient(self._daemon.port, self._patience_s) as client:
                    reply = Reply(client.send(request).read_all())
                whole = reply.status == 200 and reply.complete and (not streamed or reply.body.endswith(_END))
                if whole:
                    self.completed.append(reply.headers["x-request-id"])
                else:
                    self.wrong.append(f"{reply.status} {reply.body[-200:]!r}")
            except OSError as error:
                self.wrong.append(f"{type(error).__name__} after {time.monotonic() - started:.3f} s")
            time.sleep(self._pause_s)

    def wait_for(self, more: int, seconds: float = 10) -> None:
        """Until `more` answers came since now."""
        goal, deadline = len(self.completed) + more, time.monotonic() + seconds
        while len(self.completed) < goal:
            assert time.monotonic() < deadline, f"too few answers; {self.wrong[-3:]}"
            time.sleep(0.02)


def check_totals(daemons: list[Daemon], completed: list[str], until: Callable[[Callable[[], bool]], None]) -> None:
    """Everything accepted is stored, once, every whole answer is on record as complete, and the sums are the rows'."""
    until(lambda: all(daemon.metric("luntrex_ledger_spooled_total") == 0 for daemon in daemons))
    for daemon in daemons:
        names = ("accepted", "stored", "quarantined", "lost")
        # At one moment: what a killed process left may still be coming in.
        accepted, *others = daemon.metrics(*(f"luntrex_ledger_{name}_total" for name in names))
        assert others == [accepted, 0, 0]
    # What a killed process left is not in these counters until it is stored.
    stored = (
        "SELECT count(DISTINCT request_id) AS n FROM usage WHERE request_id = ANY($1::uuid[]) AND ending = 'complete'"
    )
    until(lambda: daemons[0].query(stored, completed)[0]["n"] == len(completed))
    # In one statement, for the same reason.
    found = daemons[0].query(
        "SELECT count(*) AS n, count(DISTINCT request_id) AS ids, sum(input_tokens)::bigint AS tokens,"
        " (SELECT sum(requests)::bigint FROM usage_rollup) AS summed_n,"
        " (SELECT sum(input_tokens)::bigint FROM usage_rollup) AS summed_tokens FROM usage"
    )[0]
    assert found["ids"] == found["n"], f"a request has several rows: {found}"
    assert (found["summed_n"], found["summed_tokens"]) == (found["n"], found["tokens"]), (
        f"sums are not the rows': {found}"
    )
